"""The compiled arithmetic of merging against plain numpy: all mixtures of types, all odd values."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from espnet_plugin.merge import kernel
from espnet_plugin.merge.formula import RAW, Interpolator

DTYPES = ("float32", "float16", "bfloat16")
MIXTURES = list(itertools.product(DTYPES, repeat=3))  # compiled one by one
SOME = [m for m in MIXTURES if sum(map(DTYPES.index, m)) % 3 == 0]  # each type with each other


def stored(values, dtype):
    """Round float32 values to a stored type, by another way than the package's."""
    if dtype == "float32":
        return values.astype(np.float32)
    if dtype == "float16":
        return values.astype(np.float16).view(np.uint16)
    bits = values.astype(np.float32).view(np.uint32).astype(np.uint64)
    low, high = bits & 0xFFFF, bits >> 16
    return (high + ((low > 0x8000) | ((low == 0x8000) & (high & 1 == 1)))).astype(np.uint16)


def wide(raw, dtype):
    if dtype == "float32":
        return raw
    if dtype == "float16":
        return raw.view(np.float16).astype(np.float32)
    return (raw.astype(np.uint32) << 16).view(np.float32)


def merged(base, tuned, ratio, dtypes):
    """Merge raw arrays; dtypes are those of the base, the tuned model and the result."""
    output = np.zeros(len(base), RAW[dtypes[2]])
    Interpolator()("x", (base, dtypes[0]), (tuned, dtypes[1]), [ratio], [output], dtypes[2])
    return output


def values(seed, n=1000):
    """Values of all magnitudes that float16 has."""
    rng = np.random.default_rng(seed)
    return (rng.standard_normal(n) * 10.0 ** rng.uniform(-9, 3, n)).astype(np.float32)


@pytest.mark.parametrize(
    "dtypes", [m if m in SOME else pytest.param(m, marks=pytest.mark.slow) for m in MIXTURES]
)
def test_the_formula_in_every_mixture_of_types(dtypes):
    base, tuned = stored(values(0), dtypes[0]), stored(values(1), dtypes[1])
    one, two = wide(base, dtypes[0]), wide(tuned, dtypes[1])
    for ratio in (0.2, 0.4, 1 / 3):
        expected = np.float32(ratio) * two + np.float32(1 - ratio) * one
        found = merged(base, tuned, ratio, dtypes)
        assert np.array_equal(found, stored(expected, dtypes[2]))
    for ratio, raw, dtype, value in ((0.0, base, dtypes[0], one), (1.0, tuned, dtypes[1], two)):
        found = merged(base, tuned, ratio, dtypes)
        assert np.array_equal(found, raw if dtype == dtypes[2] else stored(value, dtypes[2]))


def finite(dtype):
    """Every half-precision value but NaN and infinity, as bits."""
    every = np.arange(1 << 16, dtype=np.uint16)
    exponent = 0x7C00 if dtype == "float16" else 0x7F80
    return every[(every & exponent) != exponent]


def expected_bits(one, two, ratio, dtype):
    """The formula in numpy, from float32 values; what is the same in both stays."""
    value = np.float32(ratio) * two + np.float32(1 - ratio) * one
    value = np.where(one.view(np.uint32) == two.view(np.uint32), one, value)
    return stored(value, dtype).view(f"u{RAW[dtype].itemsize}")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_all_half_precision_values_with_any_other(dtype):
    every = finite(dtype)
    rng = np.random.default_rng(5)
    # Any with any, and with a neighbour, as in a model that was trained a little further.
    others = [rng.permutation(every), rng.permutation(every), np.roll(every, 1), every ^ 1]
    for other, ratio in itertools.product(others, (0.4, 0.9, 1e-3, 2.0**-24)):
        one, two = wide(every, dtype), wide(other, dtype)
        found = merged(every, other, ratio, (dtype,) * 3)
        assert np.array_equal(found, expected_bits(one, two, ratio, dtype))


@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.sampled_from(SOME))
@settings(max_examples=50, deadline=None)
def test_any_bits_at_any_ratio(seed, ratio, dtypes):
    rng = np.random.default_rng(seed)

    def raw(dtype):
        bits = rng.integers(0, 2 ** (8 * RAW[dtype].itemsize), 300, f"u{RAW[dtype].itemsize}")
        one = bits.view(RAW[dtype])
        if dtypes[2] == "float16":  # what it can hold
            return one[np.abs(wide(one, dtype)) < 65000]
        return one[np.abs(wide(one, dtype)) < 3e38]

    base, tuned = raw(dtypes[0]), raw(dtypes[1])
    n = min(len(base), len(tuned))
    base, tuned = base[:n], tuned[:n]
    one, two = wide(base, dtypes[0]), wide(tuned, dtypes[1])
    if ratio in (0.0, 1.0):
        value = stored(two if ratio else one, dtypes[2])
    else:
        value = expected_bits(one, two, ratio, dtypes[2])
    found = merged(base, tuned, ratio, dtypes)
    assert np.array_equal(found.view(f"u{found.itemsize}"), value.view(f"u{found.itemsize}"))


def test_products_and_sum_are_rounded_one_by_one():
    one, two = values(6, 4099), values(7, 4099)
    share, rest = np.float32(0.4), np.float32(1 - 0.4)
    fused = [
        (share.astype(np.float64) * two + (rest * one)).astype(np.float32),
        (rest.astype(np.float64) * one + (share * two)).astype(np.float32),
    ]
    found = merged(one, two, 0.4, ("float32",) * 3)
    assert np.array_equal(found, share * two + rest * one)
    assert all((found != other).sum() > 100 for other in fused)


def test_signs_of_zero():
    zeros = np.array([0.0, -0.0, 0.0, -0.0], np.float32)
    other = np.array([0.0, -0.0, -0.0, 0.0], np.float32)
    for ratio, expected in ((0.4, [0, 1, 0, 0]), (0.0, [0, 1, 0, 1]), (1.0, [0, 1, 1, 0])):
        for dtype in DTYPES:
            dtypes = (dtype, dtype, dtype)
            found = merged(stored(zeros, dtype), stored(other, dtype), ratio, dtypes)
            assert np.signbit(wide(found, dtype)).tolist() == [bool(x) for x in expected]


def test_the_models_differ_in_value_not_in_the_sign_of_zero():
    interpolator = Interpolator()
    for one, two, differed in ((0.0, -0.0, False), (1.0, 1.0, False), (0.0, 1e-45, True)):
        pair = (np.full(9, x, np.float32) for x in (one, two))
        base, tuned = ((x, "float32") for x in pair)
        interpolator("x", base, tuned, [0.4], [np.empty(9, np.float32)], "float32")
        assert interpolator.differed == differed


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_all_half_precision_values_come_back(dtype):
    every = finite(dtype)
    for ratio in (0.1, 0.4, 0.7):
        for result in (dtype, "float32"):
            found = merged(every, every, ratio, (dtype, dtype, result))
            expected = every if result == dtype else wide(every, dtype)
            assert np.array_equal(found, expected)


def test_rounding_to_float16_where_it_is_delicate():
    every = np.arange(0x7C00, dtype=np.uint16)  # from 0 to the largest, subnormal values too
    exact = every.view(np.float16).astype(np.float32)
    ties = (exact[1:] + exact[:-1]) / 2
    near = [np.nextafter(ties, np.float32(to)) for to in (0, np.inf)]
    edge = np.array([65519.996, 2.0**-14, 2.0**-14 - 2.0**-26, 2.0**-25, 1e-40], np.float32)
    positive = np.concatenate([exact, ties, *near, edge])
    one = np.concatenate([positive, -positive])
    found = merged(one, one, 0.0, ("float32", "float32", "float16"))
    assert np.array_equal(found, one.astype(np.float16).view(np.uint16))


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
@settings(max_examples=50, deadline=None)
def test_what_is_equal_in_both_stays(numbers):
    same = np.array(numbers, np.float32)
    other = np.append(same[1:], np.float32(1)).astype(np.float32)
    for ratio in (0.2, 0.4, 0.9):
        assert np.array_equal(merged(same, same, ratio, ("float32",) * 3), same)
        mixed = merged(same, np.where(same > 0, same, other), ratio, ("float32",) * 3)
        assert np.array_equal(mixed[same > 0], same[same > 0])


@pytest.mark.parametrize("n", [0, 1, 7, 31, 32, 33, 100_003])
def test_pieces_of_any_length(n):
    base, tuned = values(2, n), values(3, n)
    expected = np.float32(0.4) * tuned + np.float32(1 - 0.4) * base
    assert np.array_equal(merged(base, tuned, 0.4, ("float32",) * 3), expected)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("ratio", [0.0, 0.4, 1.0])
def test_nan_and_infinity_are_found_anywhere(wrong, ratio):
    good = values(4, 70_009)
    bad = good.copy()
    bad[70_005] = wrong
    for dtype in DTYPES:
        one, two = stored(good, dtype), stored(bad, dtype)
        for pair, where in (((one, two), "tuned"), ((two, one), "base")):
            with pytest.raises(ValueError, match=f"{where}: x holds NaN or infinite values"):
                merged(*pair, ratio, (dtype,) * 3)


def test_overflow_of_the_stored_type():
    cases = [("float16", x) for x in (65520.0, -1e5, 1e38)] + [("bfloat16", 3.4028235e38)]
    for dtype, number in cases:
        value = np.array([number], np.float32)
        with pytest.raises(ValueError, match=f"x: values do not fit {dtype}"):
            merged(value, value, 1.0, ("float32", "float32", dtype))


@pytest.mark.parametrize("fault", ["nowhere", "full"])
def test_a_kernel_that_cannot_be_kept_is_compiled_again(fault, monkeypatch):
    from numba import njit
    from numba.core import caching

    tried = []

    def no_room(*_):
        tried.append(1)
        raise OSError(28, "No space left on device")

    if fault == "full":
        monkeypatch.setattr(caching.IndexDataCacheFile, "load", lambda *_: None)
        monkeypatch.setattr(caching.IndexDataCacheFile, "save", no_room)
    else:
        monkeypatch.setattr(caching.CompileResultCacheImpl, "_locator_classes", [])
        with pytest.raises(RuntimeError, match="cannot cache function"):
            njit(cache=True)(kernel._interpolate)
    monkeypatch.setattr(kernel, "_compiled_interpolate", kernel._compiled(kernel._interpolate))
    one, two = values(8), values(9)
    expected = np.float32(0.4) * two + np.float32(1 - 0.4) * one
    assert np.array_equal(merged(one, two, 0.4, ("float32",) * 3), expected)
    assert len(tried) == (fault == "full")
