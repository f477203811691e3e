"""Whisper from a Hugging Face directory: released or fine-tuned, sharded or not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from espnet_plugin.checkpoint import (
    EMBEDDING,
    INDEX,
    OUTPUT,
    WEIGHTS,
    load_config,
    load_state,
    read_json,
    sha256_file,
)
from espnet_plugin.importers.source import Source, rename_all
from espnet_plugin.tokenizer import read_generation

if TYPE_CHECKING:
    import torch

PICKLED = "pytorch_model.bin"  # older directories; read with weights_only, never unpickled freely


def weight_files(directory: Path) -> list[Path]:
    """Return the files that hold a directory's weights; the index of shards comes first.

    Raises:
        FileNotFoundError: There are none, or a shard is missing.
    """
    for single, index in ((WEIGHTS, INDEX), (PICKLED, PICKLED + ".index.json")):
        if (directory / single).is_file():
            return [directory / single]
        if (directory / index).is_file():
            shards = sorted(set(read_json(directory / index)["weight_map"].values()))
            for shard in shards:
                if Path(shard).name != shard or not (directory / shard).is_file():
                    raise FileNotFoundError(f"{directory / index}: shard {shard!r} is missing")
            return [directory / index, *(directory / shard for shard in shards)]
    raise FileNotFoundError(f"{directory}: none of {WEIGHTS}, {INDEX}, {PICKLED}")


def read_hugging_face(directory: str | Path) -> Source:
    """Read a Hugging Face Whisper directory.

    Raises:
        FileNotFoundError: The directory, its configuration, weights or tokenizer is missing.
        ValueError: It is not a Whisper model, a file is damaged, or the output is untied.
    """
    directory = Path(directory)
    if (directory / "adapter_config.json").is_file() and not (directory / "config.json").is_file():
        raise ValueError(f"{directory}: an adapter (PEFT); merge it into its base model first")
    config = load_config(directory)
    files = weight_files(directory)
    if files[0].name in (WEIGHTS, INDEX):
        state = load_state(directory)
    else:
        state = _load_pickled(files)
    if EMBEDDING not in state and "decoder.embed_tokens.weight" in state:
        state = rename_all(state, lambda name: "model." + name, directory)  # a bare WhisperModel
    config.pop("_name_or_path", None)
    return Source(
        state=state,
        config=config,
        where=str(directory),
        files={file.name: sha256_file(file) for file in files},
        tokenizer_dir=directory,
        generation=read_generation(directory),
    )


def _load_pickled(files: list[Path]) -> dict[str, torch.Tensor]:
    import torch

    from espnet_plugin.importers.openai import load_pt

    state: dict[str, torch.Tensor] = {}
    for file in files:
        if file.suffix == ".json":
            continue
        part = load_pt(file)
        if not isinstance(part, dict) or not all(
            isinstance(t, torch.Tensor) for t in part.values()
        ):
            raise ValueError(f"{file}: not a dictionary of tensors")
        state |= part
    if OUTPUT in state and EMBEDDING in state:
        if not torch.equal(state[OUTPUT], state[EMBEDDING]):
            raise ValueError(f"{files[0].parent}: {OUTPUT} differs from {EMBEDDING} (untied)")
        del state[OUTPUT]
    return state
