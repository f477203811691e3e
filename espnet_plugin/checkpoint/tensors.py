"""Reading a model directory: its configuration, its tensors, their hashes, and strict checks."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint.files import read_json

if TYPE_CHECKING:
    import torch

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
EMBEDDING = "model.decoder.embed_tokens.weight"
OUTPUT = "proj_out.weight"  # tied to EMBEDDING; never stored twice
SINUSOIDS = "model.encoder.embed_positions.weight"  # fixed by definition, not learned

# The types that models are stored in, by their names in safetensors files.
SAFETENSORS_DTYPES = {"F32": "float32", "F16": "float16", "BF16": "bfloat16"}


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
        names: Sorted names, the tied output projection left out.
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
        if not self.directory.is_dir():
            raise FileNotFoundError(f"{self.directory}: no such model directory")
        self.files: dict[str, Path] = {}
        if (self.directory / WEIGHTS).is_file():
            self._add(self.directory / WEIGHTS)
        elif (self.directory / INDEX).is_file():
            index = read_json(self.directory / INDEX)["weight_map"]
            for shard in sorted(set(index.values())):
                if Path(shard).name != shard or not (self.directory / shard).is_file():
                    raise FileNotFoundError(f"{self.directory / INDEX}: shard {shard!r} is missing")
                self._add(self.directory / shard)
            if wrong := sorted(set(index) ^ set(self.files)):
                raise ValueError(f"{self.directory / INDEX}: index and shards differ in {wrong[0]}")
        else:
            raise FileNotFoundError(f"{self.directory}: neither {WEIGHTS} nor {INDEX}")
        if OUTPUT in self.files and EMBEDDING in self.files:
            import torch

            if not torch.equal(self[OUTPUT], self[EMBEDDING]):
                raise ValueError(f"{self.directory}: {OUTPUT} differs from {EMBEDDING} (untied)")
            del self.files[OUTPUT]
        self.names = sorted(self.files)

    def _add(self, path: Path) -> None:
        with _open_safetensors(path) as file:
            for name in file.keys():  # noqa: SIM118  (safe_open is not iterable)
                if name in self.files:
                    raise ValueError(f"{path}: tensor {name} is also in {self.files[name]}")
                self.files[name] = path

    def __getitem__(self, name: str) -> torch.Tensor:
        """Return one tensor as stored.

        Raises:
            ValueError: There is none of that name.
        """
        if name not in self.files:
            raise ValueError(f"{self.directory}: no tensor {name}")
        with _open_safetensors(self.files[name]) as file:
            return file.get_tensor(name)

    def spec(self, name: str) -> tuple[torch.dtype, tuple[int, ...]]:
        """Return dtype and shape of a tensor without reading it.

        Raises:
            ValueError: It is not floating point.
        """
        import torch

        with _open_safetensors(self.files[name]) as file:
            part = file.get_slice(name)
            stored, shape = part.get_dtype(), tuple(part.get_shape())
        if stored not in SAFETENSORS_DTYPES:
            allowed = ", ".join(SAFETENSORS_DTYPES.values())
            raise ValueError(f"{self.files[name]}: {name} is {stored}, allowed are {allowed}")
        return getattr(torch, SAFETENSORS_DTYPES[stored]), shape


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


def tensor_hashes(model_dir: str | Path) -> dict[str, str]:
    """Return the SHA-256 of each tensor of a model directory (its dtype, shape and bytes)."""
    tensors = Tensors(model_dir)
    hashes = {}
    for name in tensors.names:
        tensor = tensors[name]
        head = f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}\n".encode()
        hashes[name] = hashlib.sha256(head + tensor_bytes(tensor)).hexdigest()
    return hashes


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
    state: Mapping[str, torch.Tensor], config: Mapping[str, Any], where: str | Path = "the model"
) -> None:
    """Check that a state has exactly the tensors of its configuration, in the right shapes.

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
