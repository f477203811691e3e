"""Hugging Face directories: what transformers, its pipelines and this project load."""

from __future__ import annotations

from pathlib import Path

from espnet_plugin.checkpoint import (
    EMBEDDING,
    WEIGHTS,
    Tensors,
    model_dir_writer,
    safetensors_writer,
    torch_dtype,
)


def write(model_dir: Path, output: Path, dtype: str | None) -> None:
    """Write a directory with one weight file, configuration, tokenizer and generation settings.

    Tensors pass through one at a time, so memory does not depend on the model's size.

    Args:
        model_dir: The model.
        output: An existing empty directory.
        dtype: Stored type; None keeps each tensor's own.
    """
    import torch

    tensors = Tensors(model_dir)
    kinds = {n: dtype or place.dtype for n, place in tensors.places.items()}
    specs: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {
        name: (torch_dtype(kinds[name]), tuple(tensors.places[name].shape))
        for name in tensors.names
    }
    with (
        model_dir_writer(model_dir, output, kinds[EMBEDDING]) as directory,
        safetensors_writer(directory / WEIGHTS, specs) as store,
    ):
        for name in specs:
            store(name, tensors[name])
