"""The one formula of merging, in numpy: ``ratio * tuned + (1 - ratio) * base`` in float32.

Each product and the sum are rounded once, to float32, element by element; so the result depends
neither on how tensors are cut into pieces nor on threads or processors. Two rules keep exact what
needs no arithmetic:

* at ratio 0 and 1 the input itself is stored: bit for bit, where the stored type is its own;
* an element that is the same in both inputs stays as it is. (The two products can come out one unit
  in the last place off; what was frozen during training stays bit-identical in a merge this way.)

numpy and not torch, which takes seconds and half a gigabyte to import before the first byte is
merged. bfloat16 is the upper half of a float32. numpy has float16, but converts it element by
element, in most of the time of a merge; a float16 times 2^-112 has the exponent bits of the float32
of the same value, so shifts and one product do the same on whole vectors, to the same bits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

# The arrays that stand for stored tensors: float16 and bfloat16 by their bits.
RAW: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<f4"),
    "float16": np.dtype("<u2"),
    "bfloat16": np.dtype("<u2"),
}
SCALE = np.float32(2.0**112)  # between the exponents of float32 (bias 127) and float16 (bias 15)
SMALLEST = np.float32(2.0**-14)  # of float16's normal values; below, the product would round twice
OVERFLOW = np.float32(2.0**16)  # becomes float16's infinity, as everything above it
EXPONENT = {"float16": np.uint16(0x7C00), "bfloat16": np.uint16(0x7F80)}
BLOCK = 1 << 16  # elements: what one operation works on stays in the processor's cache

Raw = np.ndarray[Any, Any]


class Interpolator:
    """Merges pieces of tensors; holds the scratch memory of one thread.

    Attributes:
        differed: Whether an element has differed between the inputs so far.
    """

    def __init__(self, base_at: str = "base", tuned_at: str = "tuned") -> None:
        """Allocate scratch memory.

        Args:
            base_at: How messages call the base model.
            tuned_at: The tuned one.
        """
        self.base_at, self.tuned_at = base_at, tuned_at
        self.differed = False
        self._base, self._tuned, self._value, self._part = np.empty((4, BLOCK), np.float32)
        self._bits = np.empty(BLOCK, np.uint32)
        self._half = np.empty(BLOCK, np.uint16)
        self._mask = np.empty(BLOCK, np.bool_)

    def __call__(
        self,
        name: str,
        base: tuple[Raw, str],
        tuned: tuple[Raw, str],
        ratios: Sequence[float],
        outputs: Sequence[Raw],
        dtype: str,
    ) -> None:
        """Merge one piece of a tensor at several ratios.

        Args:
            name: The tensor's name, for messages.
            base: Elements, `(n,)` as in `RAW`, and the name of their type.
            tuned: The same elements of the tuned model.
            ratios: Shares of the tuned model, 0..1.
            outputs: Where to write each result, `(n,)` of the raw form of `dtype`.
            dtype: The stored type.

        Raises:
            ValueError: An input holds NaN or infinite values; a value does not fit the stored type.
        """
        for at in range(0, len(base[0]), BLOCK):
            part = slice(at, at + BLOCK)
            one, two = (base[0][part], base[1]), (tuned[0][part], tuned[1])
            for values, where in ((one, self.base_at), (two, self.tuned_at)):
                if not self._finite(*values):
                    raise ValueError(f"{where}: {name} holds NaN or infinite values")
            wide = self._widen(*one, self._base), self._widen(*two, self._tuned)
            if not self.differed:
                self.differed = not np.array_equal(*wide)
            for ratio, output in zip(ratios, outputs, strict=True):
                self._merge(name, one, two, wide, ratio, output[part], dtype)

    def _merge(
        self,
        name: str,
        one: tuple[Raw, str],
        two: tuple[Raw, str],
        wide: tuple[Raw, Raw],
        ratio: float,
        output: Raw,
        dtype: str,
    ) -> None:
        if ratio in (0.0, 1.0):
            raw, stored = two if ratio else one
            if stored == dtype:
                np.copyto(output, raw)
                return
            value = wide[int(ratio)]
        else:
            base, tuned = wide
            n = len(base)
            value = output if dtype == "float32" else self._value[:n]
            np.multiply(tuned, np.float32(ratio), out=value)
            rest = np.multiply(base, np.float32(1.0 - ratio), out=self._part[:n])
            np.add(value, rest, out=value)
            # A half-precision value comes back by rounding, far closer than its next neighbour.
            if dtype == "float32" or dtype != one[1]:
                bits = base.view(np.uint32), tuned.view(np.uint32)
                np.copyto(value, base, where=np.equal(*bits, out=self._mask[:n]))
        self._narrow(value, output, dtype)
        if not self._finite(output, dtype):
            raise ValueError(f"{name}: values do not fit {dtype}; choose another --dtype")

    def _finite(self, raw: Raw, dtype: str) -> bool:
        if not len(raw):
            return True
        if dtype == "float32":
            return bool(np.isfinite(raw, out=self._mask[: len(raw)]).all())
        exponent = np.bitwise_and(raw, EXPONENT[dtype], out=self._half[: len(raw)])
        return bool(exponent.max() < EXPONENT[dtype])

    def _widen(self, raw: Raw, dtype: str, output: Raw) -> Raw:
        """Convert to float32, exactly."""
        if dtype == "float32":
            return raw
        output = output[: len(raw)]
        if dtype == "float16":
            signed = output.view(np.int32)
            np.copyto(signed, raw.view(np.int16))  # the sign fills the upper half
            np.left_shift(signed, 13, out=signed)
            np.bitwise_and(signed, np.int32(-0x70002000), out=signed)  # sign, 15 bits, 13 zeros
            np.multiply(output, SCALE, out=output)
        else:
            bits = output.view(np.uint32)
            np.copyto(bits, raw)
            np.left_shift(bits, 16, out=bits)
        return output

    def _narrow(self, value: Raw, output: Raw, dtype: str) -> None:
        """Convert from float32 to the nearest value of the stored type, ties to even."""
        if dtype == "float32":
            if value is not output:
                np.copyto(output, value)
        elif dtype == "float16":
            size = np.absolute(value, out=self._part[: len(value)])
            small = np.less(size, SMALLEST, out=self._mask[: len(value)])
            np.multiply(np.minimum(size, OVERFLOW, out=size), 1 / SCALE, out=size)
            sums = self._rounded(size.view(np.uint32), 13)
            sign = np.right_shift(value.view(np.uint32), 16, out=size.view(np.uint32))
            np.bitwise_or(sums, np.bitwise_and(sign, 0x8000, out=sign), out=sums)
            np.copyto(output, sums, casting="same_kind")
            if len(at := np.flatnonzero(small)):
                output[at] = value[at].astype(np.float16).view(np.uint16)
        else:
            np.copyto(output, self._rounded(value.view(np.uint32), 16), casting="same_kind")

    def _rounded(self, bits: Raw, drop: int) -> Raw:
        """Drop low bits, rounding to the nearest and ties to even; returns scratch memory."""
        sums = self._bits[: len(bits)]
        np.right_shift(bits, drop, out=sums)
        np.bitwise_and(sums, 1, out=sums)
        np.add(sums, (1 << (drop - 1)) - 1, out=sums)
        np.add(sums, bits, out=sums)
        return np.right_shift(sums, drop, out=sums)
