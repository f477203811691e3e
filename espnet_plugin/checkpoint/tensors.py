"""Reading a model directory: its configuration, its tensors, their hashes, and strict checks."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint.files import read_json
from espnet_plugin.checkpoint.layout import (
    EMBEDDING,
    INDEX,
    ITEM_BYTES,
    OUTPUT,
    WEIGHTS,
    model_layout,
)
from espnet_plugin.checkpoint.parallel import for_each, usable_threads
from espnet_plugin.checkpoint.places import CHUNK_BYTES, Place, Reader

if TYPE_CHECKING:
    import torch

SINUSOIDS = "model.encoder.embed_positions.weight"  # fixed by definition, not learned


def model_dir_exists(path: str | Path) -> bool:
    """Tell whether a directory holds a model's configuration and weights."""
    path = Path(path)
    return (path / "config.json").is_file() and any((path / w).is_file() for w in (WEIGHTS, INDEX))


def load_config(model_dir: str | Path) -> dict[str, Any]:
    """Read a Whisper directory's ``config.json``.

    Raises:
        FileNotFoundError: The directory or the file is missing.
        ValueError: It is not the configuration of a Whisper model.
    """
    model_dir = Path(model_dir)
    if not model_dir.is_dir():
        raise FileNotFoundError(f"{model_dir}: no such model directory")
    config = read_json(model_dir / "config.json")
    kind = config.get("model_type") if isinstance(config, dict) else None
    if kind != "whisper":
        raise ValueError(f"{model_dir}/config.json: model_type is {kind!r}, expected 'whisper'")
    return config


class Tensors:
    """The tensors of a model directory, read one at a time.

    Attributes:
        places: Where each tensor lies, by name; the tied output projection is left out.
        names: Sorted names.
    """

    def __init__(self, model_dir: str | Path) -> None:
        """Index the directory's safetensors files.

        Args:
            model_dir: A directory with ``model.safetensors``, or with shards and their index.

        Raises:
            FileNotFoundError: The directory, its weights or a shard is missing.
            ValueError: A file is damaged; the index and the shards disagree.
        """
        self.directory = Path(model_dir)
        self.places = model_layout(model_dir)
        self.names = sorted(self.places)
        self._open: dict[Path, Any] = {}

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return one tensor as stored.

        Raises:
            ValueError: There is none of that name.
        """
        if name not in self.places:
            raise ValueError(f"{self.directory}: no tensor {name}")
        path = self.places[name].path
        if path not in self._open:
            self._open[path] = _open_safetensors(path)
        return self._open[path].get_tensor(name)


def check_dtypes(places: Mapping[str, Place]) -> None:
    """Check that tensors are stored in types that models are stored in.

    Raises:
        ValueError: One is not; the message names it.
    """
    for name, place in places.items():
        if place.dtype not in ITEM_BYTES:
            allowed = ", ".join(ITEM_BYTES)
            raise ValueError(f"{place.path}: {name} is {place.dtype}, allowed are {allowed}")


def _open_safetensors(path: Path) -> Any:
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, framework="pt")
    except SafetensorError as error:
        raise ValueError(f"{path}: not a complete safetensors file ({error})") from None


def load_state(model_dir: str | Path) -> dict[str, torch.Tensor]:
    """Load all tensors of a model directory, as stored, on the CPU.

    Returns:
        Tensors by Hugging Face name, sorted; the tied ``proj_out.weight`` is left out.

    Raises:
        FileNotFoundError: The directory, its weights or a shard is missing.
        ValueError: A file is damaged, or the output projection is not tied.
    """
    tensors = Tensors(model_dir)
    return {name: tensors[name] for name in tensors.names}


def tensor_bytes(tensor: torch.Tensor) -> bytes:
    """Return a tensor's elements, row-major, as little-endian bytes."""
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def tensor_hashes(model_dir: str | Path, threads: int | None = None) -> dict[str, str]:
    """Return the SHA-256 of each tensor of a model directory (its dtype, shape and bytes).

    Files are read in pieces: memory does not depend on the model's size. Needs no torch.

    Args:
        model_dir: A directory with safetensors files.
        threads: How many; None goes by the machine.

    Raises:
        FileNotFoundError: The directory, its weights or a shard is missing.
        ValueError: A file is damaged, or the output projection is not tied.
    """
    places = model_layout(model_dir)

    @contextmanager
    def worker() -> Iterator[Callable[[str], str]]:
        buffer = memoryview(bytearray(CHUNK_BYTES))
        with Reader() as reader:

            def work(name: str) -> str:
                digest = hashlib.sha256(places[name].head)
                for piece in reader.pieces(places[name], buffer):
                    digest.update(piece)
                return digest.hexdigest()

            yield work

    hashes = for_each(places, worker, usable_threads(threads))
    return {name: hashes[name] for name in sorted(hashes)}


def model_hash(hashes: Mapping[str, str]) -> str:
    """Return one SHA-256 for a model from those of its tensors, however it is cut into files."""
    return hashlib.sha256(json.dumps(dict(hashes), sort_keys=True).encode()).hexdigest()


def fp16_tensor_hash(state: Mapping[str, torch.Tensor]) -> str:
    """Return one SHA-256 over all learned tensors, rounded to fp16.

    Names are sorted; each contributes its name, its shape and its little-endian fp16 bytes. The
    tied output projection and the encoder's sinusoids are left out: the first is another name for
    the embedding, the second follow from a formula, which some files store and others compute. The
    hash is thus the same for the same weights, whatever file they came in.
    """
    import torch

    digest = hashlib.sha256()
    for name in sorted(set(state) - {OUTPUT, SINUSOIDS}):
        tensor = state[name]
        digest.update(f"{name} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor_bytes(tensor.to(torch.float16)))
    return digest.hexdigest()


def expected_shapes(config: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Return name and shape of each tensor that a Whisper configuration asks for.

    The model is built on the meta device, so this costs no memory.
    """
    import torch
    from transformers import WhisperConfig, WhisperForConditionalGeneration

    with torch.device("meta"):
        model = WhisperForConditionalGeneration(WhisperConfig.from_dict(dict(config)))
    return {n: tuple(t.shape) for n, t in model.state_dict().items() if n != OUTPUT}


def check_state(
    state: Mapping[str, torch.Tensor] | Mapping[str, Place],
    config: Mapping[str, Any],
    where: str | Path = "the model",
) -> None:
    """Check that a state has exactly the tensors of its configuration, in the right shapes.

    Places of tensors (`model_layout`) do as well: only shapes are looked at.

    Raises:
        ValueError: A tensor is missing, surplus or of another shape; the vocabulary is named apart.
    """
    expected = expected_shapes(config)
    if EMBEDDING in state and state[EMBEDDING].shape[0] != config["vocab_size"]:
        raise ValueError(
            f"{where}: vocabulary mismatch: the token embedding has {state[EMBEDDING].shape[0]} "
            f"rows, config.json says vocab_size {config['vocab_size']}"
        )
    if missing := sorted(set(expected) - set(state)):
        raise ValueError(f"{where}: {len(missing)} tensors are missing, first {missing[0]}")
    if surplus := sorted(set(state) - set(expected) - {OUTPUT}):
        raise ValueError(f"{where}: {len(surplus)} unknown tensors, first {surplus[0]}")
    for name, shape in expected.items():
        if tuple(state[name].shape) != shape:
            raise ValueError(
                f"{where}: {name} has shape {tuple(state[name].shape)}, "
                f"config.json asks for {shape}"
            )
