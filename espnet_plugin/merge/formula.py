"""The one formula of merging: ``ratio * tuned + (1 - ratio) * base`` in float32.

Each product and the sum are rounded once, to float32, element by element; so the result depends
neither on how tensors are cut into pieces nor on threads or processors. Two rules keep exact what
needs no arithmetic:

* at ratio 0 and 1 the input itself is stored: bit for bit, where the stored type is its own;
* an element that is the same in both inputs stays as it is. (The two products can come out one unit
  in the last place off; what was frozen during training stays bit-identical in a merge this way.)

The arithmetic is compiled by numba (`espnet_plugin.merge.kernel`). torch takes seconds and half a
gigabyte to import before the first byte is merged.
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
# The same as the compiled loop tells them apart.
BITS: dict[str, np.dtype[Any]] = {
    "float32": np.dtype("<u4"),
    "float16": np.dtype("<u2"),
    "bfloat16": np.dtype("<i2"),
}

Raw = np.ndarray[Any, Any]


class Interpolator:
    """Merges pieces of tensors; for one thread.

    Attributes:
        differed: Whether an element has differed between the inputs so far.
    """

    def __init__(self, base_at: str = "base", tuned_at: str = "tuned") -> None:
        """Remember the names.

        Args:
            base_at: How messages call the base model.
            tuned_at: The tuned one.
        """
        self.base_at, self.tuned_at = base_at, tuned_at
        self.differed = False

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
        from espnet_plugin.merge import kernel  # half a second, not needed to parse options

        if not len(base[0]):
            return
        one, two = (raw.view(BITS[kind]) for raw, kind in (base, tuned))
        for ratio, output in zip(ratios, outputs, strict=True):
            result = output.view(BITS[dtype])
            if ratio == 1.0:  # kept as it is, like the base at ratio 0
                found = kernel.interpolate(two, one, 0.0, True, result)
                bad_one, bad_two = kernel.TUNED_BAD, kernel.BASE_BAD
            else:
                found = kernel.interpolate(one, two, ratio, ratio == 0.0, result)
                bad_one, bad_two = kernel.BASE_BAD, kernel.TUNED_BAD
            for bad, where in ((bad_one, self.base_at), (bad_two, self.tuned_at)):
                if found & bad:
                    raise ValueError(f"{where}: {name} holds NaN or infinite values")
            if found & kernel.RESULT_BAD:
                raise ValueError(f"{name}: values do not fit {dtype}; choose another --dtype")
            self.differed |= bool(found & kernel.DIFFER)
