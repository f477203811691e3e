"""The inner loop of merging, compiled by numba: one pass over the elements, for each ratio.

Arrays hold bits, and their type says of what: uint32 are float32, uint16 float16, int16 bfloat16.
Conversions are shifts, sums and choices on integers, which processors do on whole vectors; numpy
converts float16 one by one. numba is not told to relax floating point (`fastmath`), so products and
sums are rounded one by one, as in numpy, and never fused: the bits are the same on every processor.

Compiling takes about a second, the first time for each mixture of types; numba keeps the result
beside this file or, where that cannot be written, in the user's cache directory.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

F32, U32 = np.float32, np.uint32
SIZE = U32(0x7FFFFFFF)  # of a float32's bits, all but the sign
INFINITE = U32(0x7F800000)
HALF_INFINITE = U32((15 + 16 + 112) << 23)  # what float16's infinity becomes: 2^16
REBIAS = U32(112 << 23)  # between the exponents of float32 (bias 127) and float16 (bias 15)
# What the largest value and half a step more come to: it would be stored as infinite.
HALF_TOO_LARGE, BFLOAT_TOO_LARGE = U32(0x477FF000), U32(0x7F7F8000)

BASE_BAD, TUNED_BAD, RESULT_BAD, DIFFER = 1, 2, 4, 8  # what `interpolate` returns, added up


@njit
def _bits(value):  # type: ignore[no-untyped-def]
    return F32(value).view(U32)


@njit
def _value(bits):  # type: ignore[no-untyped-def]
    return U32(bits).view(F32)


def _only_compiled(*_: Any) -> Any:
    raise NotImplementedError("merging needs numba's compiler; unset NUMBA_DISABLE_JIT")


def _widen(raw: Any) -> Any:
    """Return the bits of the float32 of the same value."""
    return _only_compiled()


@overload(_widen, strict=False)
def _widen_by_type(raw: Any) -> Callable[[Any], Any]:
    if raw == types.uint32:
        return lambda raw: raw
    if raw == types.int16:
        return lambda raw: U32(U32(np.uint16(raw)) << U32(16))

    def half(raw: Any) -> Any:
        size = U32(U32(raw & np.uint16(0x7FFF)) << U32(13))
        # The smallest values have no leading 1: with it they are 2^-14 too large, exactly.
        small = _bits(_value(U32(size + REBIAS + U32(1 << 23))) - F32(2.0**-14))
        found = small if size < U32(1 << 23) else U32(size + REBIAS)
        return U32(found | U32(U32(raw & np.uint16(0x8000)) << U32(16)))

    return half


def _narrow(bits: Any, like: Any) -> Any:
    """Return a float32 as the nearest value of the type of `like`, ties to even."""
    return _only_compiled()


@overload(_narrow, strict=False)
def _narrow_by_type(bits: Any, like: Any) -> Callable[[Any, Any], Any]:
    if like == types.uint32:
        return lambda bits, like: bits
    if like == types.int16:
        return lambda bits, like: np.int16(
            U32(bits + U32(0x7FFF) + U32(U32(bits >> U32(16)) & U32(1))) >> U32(16)
        )

    def half(bits: Any, like: Any) -> Any:
        size = U32(bits & SIZE)
        odd = U32(U32(size >> U32(13)) & U32(1))
        normal = U32(U32(size - REBIAS + U32(0xFFF) + odd) >> U32(13))
        # Beside 1/2 a float32 steps by 2^-24, as float16 does below 2^-14: the sum rounds.
        small = U32(_bits(_value(size) + F32(0.5)) - U32(126 << 23))
        found = small if size < U32(113 << 23) else normal
        return np.uint16(found | U32(U32(bits >> U32(16)) & U32(0x8000)))

    return half


def _infinite(raw: Any) -> Any:
    """Return the bits of a widened value from which on it is infinite or NaN."""
    return _only_compiled()


@overload(_infinite, strict=False)
def _infinite_by_type(raw: Any) -> Callable[[Any], Any]:
    limit = HALF_INFINITE if raw == types.uint16 else INFINITE
    return lambda raw: limit


def _too_large(raw: Any) -> Any:
    """Return the bits of a float32 from which on it does not fit the type of `raw`."""
    return _only_compiled()


@overload(_too_large, strict=False)
def _too_large_by_type(raw: Any) -> Callable[[Any], Any]:
    limits = {types.uint16: HALF_TOO_LARGE, types.int16: BFLOAT_TOO_LARGE}
    limit = limits.get(raw, INFINITE)
    return lambda raw: limit


def _interpolate(base: Any, tuned: Any, share: Any, rest: Any, keep: Any, output: Any) -> Any:
    most_base = most_tuned = most = differ = U32(0)
    for i in range(len(output)):
        one, two = _widen(base[i]), _widen(tuned[i])
        most_base = max(most_base, U32(one & SIZE))
        most_tuned = max(most_tuned, U32(two & SIZE))
        differ = U32(differ | U32(_value(one) != _value(two)))
        merged = _bits(share * _value(two) + rest * _value(one))
        merged = one if (U32(one == two) | keep) != U32(0) else merged
        most = max(most, U32(merged & SIZE))
        output[i] = _narrow(merged, output[i])
    return (
        (most_base >= _infinite(base[0])) * BASE_BAD
        | (most_tuned >= _infinite(tuned[0])) * TUNED_BAD
        | (most >= _too_large(output[0])) * RESULT_BAD
        | (differ != U32(0)) * DIFFER
    )


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no directory of numba's can be written: compiled in each process
        return njit(nogil=True)(function)


_compiled_interpolate = _compiled(_interpolate)

Bits = np.ndarray[Any, Any]


def interpolate(base: Bits, tuned: Bits, share: float, keep: bool, output: Bits) -> int:
    """Write ``share * tuned + (1 - share) * base``, or `base` where both are the same.

    Args:
        base: Elements, `(n,)`, n > 0, uint32, uint16 or int16: bits as said above.
        tuned: The same of the other model.
        share: Its share, 0..1; this and its complement are rounded to float32.
        keep: Write `base` as it is, whatever `share` says.
        output: Where to write, `(n,)`.

    Returns:
        `BASE_BAD` and `TUNED_BAD` where that input holds NaN or infinite values, `RESULT_BAD`
        where a result does not fit its type (the output is of no use then), `DIFFER` where the
        inputs are not the same in value; added up.
    """
    given = base, tuned, F32(share), F32(1.0 - share), U32(keep), output
    try:
        return int(_compiled_interpolate(*given))
    except OSError:  # it was compiled, but could not be kept: no room, say
        return int(_compiled_interpolate(*given))
