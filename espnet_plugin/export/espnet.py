"""ESPnet's packed zip, by `espnet2.bin.pack`: what its model zoo downloads and unpacks.

With this package installed, ``espnet_plugin.Speech2Text.from_pretrained(...)`` loads the file, and
a hub repository that holds its members as well. A packed model carries the model directory and a
`config.yaml` of what inference needs: training's own has the paths of the machine, the options of
the run and the 51 865 tokens, which `tokens.txt` has already.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import CARRIED, WEIGHTS, atomic_write
from espnet_plugin.export import hf
from espnet_plugin.export.formats import FORMATS
from espnet_plugin.export.history import training_config

CONFIG = "config.yaml"
META = "meta.yaml"
# The model's own options that inference reads; the rest of `model_conf` is about training.
MODEL_CONF = ("pad", "lang_tokens", "text_style")


def inference_config(model_dir: Path) -> dict[str, Any]:
    """Return what ESPnet's inference needs of a `config.yaml`.

    A merged model has none of its own: it takes that of the adapted model it was made from.
    """
    conf = training_config(model_dir).get("model_conf") or {}
    return {
        "model": "asyncswitch_whisper",
        "model_conf": {name: conf[name] for name in MODEL_CONF if name in conf},
        "encoder": "asyncswitch_whisper",
        "decoder": "asyncswitch_whisper",
        "input_size": 1,
        "frontend": None,
        "normalize": None,
        "token_type": "hugging_face",
    }


def write(model_dir: Path, output: Path, dtype: str | None) -> None:
    """Pack a model directory.

    Args:
        model_dir: The model.
        output: An existing empty directory.
        dtype: Stored type; None keeps each tensor's own.
    """
    import yaml
    from espnet2.bin import pack

    packed = output / "packed"
    packed.mkdir()
    hf.write(model_dir, packed, dtype)
    with atomic_write(packed / CONFIG, "w") as file:
        yaml.safe_dump(inference_config(model_dir), file, sort_keys=False)
    target = output / str(FORMATS["espnet"].file)
    command = ["asr", "--outpath", str(target.resolve())]
    command += ["--asr_model_file", WEIGHTS, "--asr_train_config", CONFIG]
    for name in CARRIED:
        if (packed / name).is_file():
            command += ["--option", name]
    # It stores names relative to the working directory, and absolute ones for files elsewhere.
    with contextlib.chdir(packed), contextlib.redirect_stdout(io.StringIO()):
        pack.main(command)
    for path in packed.iterdir():
        path.unlink()
    packed.rmdir()
