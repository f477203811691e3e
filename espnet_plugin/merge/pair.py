"""Two model directories that fit each other, read side by side in pieces."""

import hashlib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import (
    EMBEDDING,
    ITEM_BYTES,
    OUTPUT,
    Place,
    Reader,
    check_dtypes,
    dtype_name,
    load_config,
    model_layout,
)
from espnet_plugin.merge.formula import RAW, Interpolator, Raw
from espnet_plugin.merge.ratios import ratios_by_name

CHUNK = 1 << 20  # elements of a tensor that a thread holds at a time
# What must agree for an interpolation of the weights to mean anything.
SHAPE_KEYS = (
    *("vocab_size", "num_mel_bins", "d_model", "encoder_layers", "decoder_layers"),
    *("encoder_attention_heads", "decoder_attention_heads"),
)


class Pair:
    """A base model and a tuned one: the same tensors in the same shapes.

    Attributes:
        base: Directory of the original model.
        tuned: Directory of the adapted model.
        names: Tensor names, sorted; the tied output projection is left out.
        in_order: The names as they lie in the base's files.
        places: For each name, where the base's and the tuned model's tensor lie.
        dtypes: The type in which each merged tensor is stored.
    """

    def __init__(
        self,
        base: str | Path,
        tuned: str | Path,
        group_ratio: Mapping[str, float] | None = None,
        layer_ratio: Mapping[str, float] | None = None,
        dtype: str | None = None,
    ) -> None:
        """Compare two model directories by their configurations and headers; no tensor is read.

        Args:
            base: Directory of the original model.
            tuned: Directory of the adapted model.
            group_ratio: Ratios that replace the common one for some groups.
            layer_ratio: Ratios that replace it for some layers.
            dtype: Storage type; None keeps each tensor's type in ``base``.

        Raises:
            FileNotFoundError: An input is not a model directory.
            ValueError: The models do not fit each other (the tensor is named), or are the same.
        """
        self.base, self.tuned = Path(base), Path(tuned)
        check_same_shape(self.base, self.tuned)
        one, two = model_layout(base), model_layout(tuned)
        check_names(one, two, self.base, self.tuned)
        for places in (one, two):
            check_dtypes(places)
        for name, place in one.items():
            check_shapes(name, place.shape, two[name].shape, self.base, self.tuned)
        _check_apart(one, two, self.base, self.tuned)
        if EMBEDDING not in one:
            raise ValueError(f"{self.base}: 1 tensors are missing, first {EMBEDDING}")
        rows, vocabulary = one[EMBEDDING].shape[0], load_config(base).get("vocab_size")
        if rows != vocabulary:
            raise ValueError(
                f"{self.base}: {EMBEDDING} has {rows} rows, config.json says vocab_size "
                f"{vocabulary}"
            )
        self.in_order, self.names = list(one), sorted(one)
        self.places = {name: (one[name], two[name]) for name in self.names}
        wanted = None if dtype is None else dtype_name(dtype)
        self.dtypes = {name: wanted or one[name].dtype for name in self.names}
        self._ratios = ratios_by_name(self.names, group_ratio, layer_ratio)
        self._differed = False

    def ratio_of(self, name: str, ratio: float) -> float:
        """Return the ratio of a tensor where the common one is `ratio`."""
        own = self._ratios[name]
        return ratio if own is None else own

    def spec(self, name: str) -> tuple[str, tuple[int, ...]]:
        """Return stored type and shape of a merged tensor."""
        return self.dtypes[name], self.places[name][0].shape

    def nbytes(self, name: str) -> int:
        """Return the bytes of a merged tensor."""
        dtype, shape = self.spec(name)
        return math.prod(shape) * ITEM_BYTES[dtype]

    @contextmanager
    def merger(self, hashes: bool = False) -> Iterator["Merger"]:
        """Open the files for one thread."""
        with Reader() as reader:
            merger = Merger(self, reader, hashes)
            try:
                yield merger
            finally:
                self._differed |= merger.interpolator.differed

    def check_differed(self) -> None:
        """Check, when every tensor has been merged, that the models were not the same.

        Raises:
            ValueError: No element differed.
        """
        if not self._differed:
            raise ValueError(
                f"{self.tuned} holds the same values as {self.base} in all {len(self.names)} "
                f"tensors, from {self.names[0]} on: a model merged with itself"
            )


class Merger:
    """Merges tensors of a pair, piece by piece; for one thread.

    Attributes:
        interpolator: The arithmetic.
        digests: With hashes, the SHA-256 of the last tensor of the base and of the tuned model.
    """

    def __init__(self, pair: Pair, reader: Reader, hashes: bool) -> None:
        self._pair, self._reader, self._hashes = pair, reader, hashes
        self.interpolator = Interpolator(str(pair.base), str(pair.tuned))
        self.digests: tuple[str, str] = "", ""
        wide = [
            max(ITEM_BYTES[p.dtype] for p in side)
            for side in zip(*pair.places.values(), strict=True)
        ]
        self._inputs = [memoryview(bytearray(CHUNK * size)) for size in wide]
        self._item = max(ITEM_BYTES[dtype] for dtype in pair.dtypes.values())
        self._outputs: list[Raw] = []

    def pieces(self, name: str, ratios: Sequence[float]) -> Iterator[tuple[int, list[Raw]]]:
        """Merge a tensor.

        Args:
            name: Its name.
            ratios: The common ratios; the tensor's own replaces them where it has one.

        Yields:
            The first element, and for each ratio the merged elements in their raw form, which stay
            valid until the next piece.

        Raises:
            ValueError: A value is NaN or infinite, or does not fit the stored type; a file ends
                early.
        """
        one, two = self._pair.places[name]
        own = [self._pair.ratio_of(name, ratio) for ratio in ratios]
        stored = self._pair.dtypes[name]
        while len(self._outputs) < len(own):
            self._outputs.append(np.empty(CHUNK * self._item, np.uint8))
        digests = [hashlib.sha256(place.head) for place in (one, two)] if self._hashes else []
        elements = math.prod(one.shape)
        for first in range(0, elements, CHUNK):
            n = min(CHUNK, elements - first)
            inputs: list[tuple[Raw, str]] = []
            for side, place in enumerate((one, two)):
                size = ITEM_BYTES[place.dtype]
                data = self._inputs[side][: n * size]
                self._reader.fill(data, place, first * size)
                if digests:
                    digests[side].update(data)
                inputs.append((np.frombuffer(data, RAW[place.dtype]), place.dtype))
            outputs = [o.view(RAW[stored])[:n] for o in self._outputs[: len(own)]]
            self.interpolator(name, inputs[0], inputs[1], own, outputs, stored)
            yield first, outputs
        if digests:
            self.digests = digests[0].hexdigest(), digests[1].hexdigest()


def check_same_shape(base: Path, tuned: Path) -> None:
    """Check that two configurations describe the same architecture.

    Raises:
        FileNotFoundError: A configuration is missing.
        ValueError: They do not.
    """
    one, two = load_config(base), load_config(tuned)
    for key in SHAPE_KEYS:
        if one.get(key) != two.get(key):
            raise ValueError(
                f"config.json: {key} is {one.get(key)} in {base}, {two.get(key)} in {tuned}"
            )


def check_names(
    base: Mapping[str, Any], tuned: Mapping[str, Any], base_at: str | Path, tuned_at: str | Path
) -> None:
    """Check that two models have the same tensors, the tied output projection apart.

    Raises:
        ValueError: One has a tensor that the other has not.
    """
    for have, lack, at in ((base, tuned, tuned_at), (tuned, base, base_at)):
        if missing := sorted(set(have) - set(lack) - {OUTPUT}):
            raise ValueError(f"{at}: {len(missing)} tensors are missing, first {missing[0]}")


def check_shapes(
    name: str,
    base: tuple[int, ...],
    tuned: tuple[int, ...],
    base_at: str | Path,
    tuned_at: str | Path,
) -> None:
    """Check that a tensor has the same shape in both models.

    Raises:
        ValueError: It has not.
    """
    if base != tuned:
        what = " (another vocabulary)" if name == EMBEDDING else ""
        raise ValueError(f"{name}: shape {base} in {base_at}, {tuned} in {tuned_at}{what}")


def _check_apart(
    one: Mapping[str, Place], two: Mapping[str, Place], base: Path, tuned: Path
) -> None:
    """Check that the directories do not share a file of weights (by links)."""
    files = {os.stat(place.path)[1:3]: place.path for place in one.values()}
    for place in two.values():
        if shared := files.get(os.stat(place.path)[1:3]):
            raise ValueError(
                f"{tuned}: {place.path.name} is the same file as {shared} of {base}: a model "
                "merged with itself"
            )
