"""Merges that are used and not stored: of states in memory, and of directories, ratio by ratio."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from espnet_plugin.checkpoint import DTYPES, OUTPUT, for_each, usable_threads
from espnet_plugin.merge.formula import RAW, Interpolator, Raw
from espnet_plugin.merge.pair import Pair, check_names, check_shapes
from espnet_plugin.merge.ratios import DEFAULT_RATIO, check_ratios, ratios_by_name

if TYPE_CHECKING:
    import torch


def merge_states(
    base_state: Mapping[str, torch.Tensor],
    tuned_state: Mapping[str, torch.Tensor],
    ratio: float = DEFAULT_RATIO,
    group_ratio: Mapping[str, float] | None = None,
    layer_ratio: Mapping[str, float] | None = None,
) -> dict[str, torch.Tensor]:
    """Interpolate two states in memory.

    Args:
        base_state: Tensors by Hugging Face name.
        tuned_state: The same names and shapes.
        ratio: Share of the tuned model, 0..1.
        group_ratio: Ratios that replace it for some of the groups in `espnet_plugin.groups`.
        layer_ratio: Ratios that replace it for some layers; see `ratios_by_name`.

    Returns:
        New tensors in the dtype of the base's, on its device.

    Raises:
        ValueError: Names, shapes or layers differ, a value is NaN or infinite, a type is not one
            that models are stored in, a ratio or group is wrong.
    """
    check_ratios(ratio, group_ratio, layer_ratio)
    check_names(base_state, tuned_state, "base", "tuned")
    names = [name for name in base_state if name in tuned_state]  # one may store the tied output
    ratios = ratios_by_name(names, group_ratio, layer_ratio)
    interpolator, merged = Interpolator(), {}
    for name in names:
        base, tuned = base_state[name], tuned_state[name]
        check_shapes(name, tuple(base.shape), tuple(tuned.shape), "base", "tuned")
        one, two = _raw(name, base, "base"), _raw(name, tuned, "tuned")
        own = ratios[name]
        output = _empty(tuple(base.shape), one[1])
        target = _raw(name, output, "")[0]
        interpolator(name, one, two, [ratio if own is None else own], [target], one[1])
        merged[name] = output.to(base.device)
    return merged


class Sweep:
    """Every interpolation of two model directories, without writing one.

    Tensors are read from the directories and merged one at a time, whenever they are asked for, so
    a sweep over many ratios needs the memory of one model: that of the module which is decoded with
    (`load_into`). The values are those that `merge` writes, bit for bit.

    Attributes:
        base: Directory of the original model, whose configuration and tokenizer serve the merges.
        tuned: Directory of the adapted model.
    """

    def __init__(
        self,
        base: str | Path,
        tuned: str | Path,
        group_ratio: Mapping[str, float] | None = None,
        layer_ratio: Mapping[str, float] | None = None,
        *,
        dtype: str | None = None,
        threads: int | None = None,
    ) -> None:
        """Compare the directories by their configurations and headers.

        Args:
            base: Directory of the original model.
            tuned: Directory of the adapted model.
            group_ratio: Ratios that replace the common one for some groups.
            layer_ratio: Ratios that replace it for some layers.
            dtype: Type that the merge would be stored in; None is that of the base.
            threads: How many; None goes by the machine.

        Raises:
            FileNotFoundError: An input is not a model directory.
            ValueError: The models do not fit each other, or a ratio, group or layer is wrong.
        """
        check_ratios(DEFAULT_RATIO, group_ratio, layer_ratio)
        self._pair = Pair(base, tuned, group_ratio, layer_ratio, dtype)
        self._threads = usable_threads(threads)
        self.base, self.tuned = self._pair.base, self._pair.tuned

    def state(self, ratio: float) -> dict[str, torch.Tensor]:
        """Return all tensors at a ratio, new in memory, by Hugging Face name.

        Raises:
            ValueError: The ratio lies outside 0..1, a value is NaN or infinite or does not fit.
        """
        return self._map(ratio, lambda name, tensor: tensor)

    def load_into(self, module: torch.nn.Module, ratio: float) -> None:
        """Give a module the weights at a ratio: in place, in its own dtype, on its own device.

        Args:
            module: A transformers Whisper, with or without its output head (parameter names with
                or without ``model.``).
            ratio: Share of the tuned model, 0..1.

        Raises:
            ValueError: The module has other tensors or shapes; see also `state`.
        """
        import torch

        own = {_full(name): tensor for name, tensor in module.state_dict().items()}
        check_names(dict.fromkeys(self._pair.names), own, self.base, "the module")
        for name, tensor in own.items():
            if name != OUTPUT:
                shape = self._pair.spec(name)[1]
                check_shapes(name, shape, tuple(tensor.shape), self.base, "the module")

        def copy(name: str, tensor: torch.Tensor) -> None:
            with torch.no_grad():
                own[name].copy_(tensor)

        self._map(ratio, copy)

    def hashes(self, ratio: float) -> dict[str, str]:
        """Return what `checkpoint.tensor_hashes` gives for the directory that `merge` would write.

        Raises:
            ValueError: The ratio lies outside 0..1, a value is NaN or infinite or does not fit.
        """
        check_ratios(ratio)

        @contextmanager
        def worker() -> Iterator[Callable[[str], str]]:
            with self._pair.merger() as merger:

                def work(name: str) -> str:
                    dtype, shape = self._pair.spec(name)
                    digest = hashlib.sha256(f"{dtype} {shape}\n".encode())
                    for _, (values,) in merger.pieces(name, [ratio]):
                        digest.update(memoryview(values).cast("B"))
                    return digest.hexdigest()

                yield work

        return for_each(self._pair.names, worker, self._threads)

    def _map[T](self, ratio: float, use: Callable[[str, torch.Tensor], T]) -> dict[str, T]:
        """Merge each tensor in memory and pass it on."""
        check_ratios(ratio)

        @contextmanager
        def worker() -> Iterator[Callable[[str], T]]:
            with self._pair.merger() as merger:

                def work(name: str) -> T:
                    dtype, shape = self._pair.spec(name)
                    output = _empty(shape, dtype)
                    raw = _raw(name, output, "")[0]
                    for first, (values,) in merger.pieces(name, [ratio]):
                        raw[first : first + len(values)] = values
                    return use(name, output)

                yield work

        return for_each(self._pair.names, worker, self._threads)


def _full(name: str) -> str:
    return name if name == OUTPUT or name.startswith("model.") else f"model.{name}"


def _empty(shape: tuple[int, ...], dtype: str) -> torch.Tensor:
    import torch

    return torch.empty(shape, dtype=getattr(torch, dtype))


def _raw(name: str, tensor: torch.Tensor, where: str) -> tuple[Raw, str]:
    """Return a tensor's elements in their raw form, and its type; no copy on the CPU."""
    import torch

    dtype = str(tensor.dtype).removeprefix("torch.")
    if dtype not in DTYPES:
        raise ValueError(f"{where}: {name} is {dtype}, allowed are {', '.join(DTYPES)}")
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    if dtype == "bfloat16":  # unknown to numpy
        flat = flat.view(torch.uint16)
    array: np.ndarray[Any, Any] = flat.numpy()
    return array.view(RAW[dtype]), dtype
