"""CTranslate2 directories, as faster-whisper and WhisperX load them, by CTranslate2's converter."""

from __future__ import annotations

from pathlib import Path

from espnet_plugin.checkpoint import load_config
from espnet_plugin.export.checks import check_plain

# What faster-whisper reads beside the model, and the settings that `import_model` takes back.
COPIED = ("tokenizer.json", "preprocessor_config.json", "generation_config.json")


def write(model_dir: Path, output: Path, dtype: str | None) -> None:
    """Convert a model directory.

    Args:
        model_dir: The model.
        output: An existing empty directory.
        dtype: Stored type; None keeps the model's.

    Raises:
        FileNotFoundError: The model lacks a file that belongs to it.
        ValueError: CTranslate2 is not installed, or cannot express the model.
    """
    check_plain(load_config(model_dir), "CTranslate2")
    for name in COPIED:
        if not (model_dir / name).is_file():
            raise FileNotFoundError(
                f"{model_dir / name}: missing; import (recipe stage 5) makes it"
            )
    try:
        from ctranslate2.converters import TransformersConverter
    except ImportError as error:
        raise ValueError(
            f"CTranslate2 is not installed ({error}): pip install ctranslate2"
        ) from None
    from transformers.utils import logging

    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # of loading the weights, a line for every export
    try:
        converter = TransformersConverter(str(model_dir), copy_files=list(COPIED))
        converter.convert(str(output), quantization=dtype, force=True)
    finally:
        if bars:
            logging.enable_progress_bar()
