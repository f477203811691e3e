"""Where a model's weights, configuration and tokenizer are, however ESPnet is told."""

import argparse
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import yaml

from espnet_plugin.checkpoint import INDEX, WEIGHTS

PathLike = str | Path | None


@dataclass
class Located:
    """A model on disk.

    Attributes:
        directory: Model directory: architecture, tokenizer, and weights unless `checkpoint` has
            them.
        checkpoint: ESPnet's checkpoint, or None.
        config: Content of `config.yaml`; empty where there is none.
    """

    directory: Path
    checkpoint: Path | None = None
    config: dict[str, Any] = field(default_factory=dict)

    @property
    def model_conf(self) -> dict[str, Any]:
        """Options of the model, without its directory."""
        conf = dict(self.config.get("model_conf") or {})
        conf.pop("model_dir", None)
        if self.checkpoint is None:
            conf.pop("lora", None)  # a finished directory has its adapters merged
        return conf

    @property
    def pad(self) -> str:
        """How audio is fed."""
        return str(self.model_conf.get("pad", "batch"))

    @property
    def token_list(self) -> list[str]:
        """ESPnet's token list of the model.

        Raises:
            FileNotFoundError: If it is missing.
        """
        path = self.directory / "tokens.txt"
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: import (recipe stage 5) writes it")
        return path.read_text(encoding="utf-8").splitlines()

    def arguments(self) -> argparse.Namespace:
        """Return the training arguments as ESPnet's inference reads them."""
        ours = {
            "token_type": "hugging_face",
            "bpemodel": str(self.directory),
            "use_preprocessor": False,
            "preprocessor_conf": {},
        }
        return argparse.Namespace(**(self.config | ours))

    def load_checkpoint(self, model: torch.nn.Module) -> None:
        """Load ESPnet's checkpoint, if there is one, strictly and without unpickling code.

        Raises:
            ValueError: If it is no plain checkpoint, or a tensor is missing, surplus or misshapen.
        """
        if self.checkpoint is None:
            return
        where = self.checkpoint
        try:
            state = torch.load(where, map_location="cpu", weights_only=True)
        except Exception as error:
            # torch raises a dozen types for files that are no checkpoint
            raise ValueError(f"{where}: not a checkpoint of tensors ({error})") from error
        expected = model.state_dict()
        if missing := sorted(set(expected) - set(state)):
            raise ValueError(f"{where}: {len(missing)} tensors are missing, first {missing[0]}")
        if surplus := sorted(set(state) - set(expected)):
            raise ValueError(f"{where}: {len(surplus)} surplus tensors, first {surplus[0]}")
        for name, tensor in expected.items():
            if state[name].shape != tensor.shape:
                raise ValueError(
                    f"{where}: {name} has the shape {tuple(state[name].shape)}, the model "
                    f"{tuple(tensor.shape)}"
                )
        model.load_state_dict(state, strict=True)


def locate(asr_train_config: PathLike, asr_model_file: PathLike, model_dir: PathLike) -> Located:
    """Find a model.

    Args:
        asr_train_config: ESPnet's `config.yaml`, or None: that beside the model, if any.
        asr_model_file: A checkpoint `.pth`, a model directory or its `model.safetensors`, or None:
            the directory of the configuration.
        model_dir: A model directory; instead of `asr_model_file`.

    Raises:
        FileNotFoundError: If something is missing.
        ValueError: If nothing is given, too much, or a configuration of another model.
    """
    if model_dir is not None and asr_model_file is not None:
        raise ValueError("give either model_dir or asr_model_file")
    given = model_dir if model_dir is not None else asr_model_file
    if given is None:
        if asr_train_config is None:
            raise ValueError("give model_dir, asr_model_file or asr_train_config")
        given = Path(asr_train_config).parent
    path = Path(given)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such model file or directory")
    if path.is_file() and path.name in (WEIGHTS, INDEX):
        path = path.parent
    beside = path if path.is_dir() else path.parent
    config = _read_config(asr_train_config, beside)
    if path.is_dir():
        return Located(path, None, config)
    if (beside / "config.json").is_file() and (beside / "tokenizer.json").is_file():
        return Located(beside, path, config)  # training is finished
    start = (config.get("model_conf") or {}).get("model_dir")
    if start is None:
        raise FileNotFoundError(
            f"{beside} holds neither config.json and tokenizer.json nor a config.yaml with "
            f"model_dir: the architecture of {path.name} is unknown"
        )
    return Located(Path(start), path, config)


def _read_config(given: PathLike, beside: Path) -> dict[str, Any]:
    path = Path(given) if given is not None else beside / "config.yaml"
    if not path.is_file():
        if given is not None:
            raise FileNotFoundError(f"{path}: no such configuration")
        return {}
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or "model_conf" not in content:
        raise ValueError(f"{path}: not a configuration that ESPnet's training wrote")
    return content
