"""ESPnet's inference program with our `Speech2Text` in it."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from espnet2.bin import asr_inference

from espnet_plugin.decode.options import PADS, SUPPRESS
from espnet_plugin.decode.recordings import check_recordings
from espnet_plugin.decode.speech2text import BEAM_SIZE, Speech2Text

BACKENDS = ("torch", "ctranslate2")
OURS = ("language", "lang_tokens", "timestamps", "suppress", "pad")  # not options of ESPnet's


def inference_parser(description: str | None) -> argparse.ArgumentParser:
    """Return ESPnet's parser with our options and defaults."""
    made = asr_inference.get_parser()
    made.description = description
    made.formatter_class = argparse.RawDescriptionHelpFormatter
    made.prog = "python -m espnet_plugin.bin.asr_inference"
    made.set_defaults(beam_size=BEAM_SIZE, ctc_weight=0.0)
    add = made.add_argument_group("AsyncSwitch").add_argument
    add("--model_dir", help="model directory, instead of --asr_train_config and --asr_model_file")
    add("--backend", choices=BACKENDS, default="torch", help="what computes")
    add("--language", help="language of the data (of lang_tokens), or a Whisper code")
    add("--lang_tokens", help="data language:Whisper language; default: the configuration's")
    add("--timestamps", action="store_true", help="generate timestamps")
    add("--suppress", choices=SUPPRESS, default="none", help="tokens never written")
    add("--pad", choices=PADS, help="default: the configuration's, else batch")
    return made


def infer(args: argparse.Namespace) -> None:
    """Decode as the parsed options say, by ESPnet's own program.

    Raises:
        FileNotFoundError: If a table of recordings is missing.
        ValueError: If the back end or a GPU is not there, an option has no meaning for these
            models, or a recording cannot be heard.
    """
    given = vars(args)
    given.pop("config", None)
    if given.pop("backend") != "torch":
        raise ValueError("--backend ctranslate2 is not available yet: use --backend torch")
    if (directory := given.pop("model_dir")) is not None:
        if given["asr_model_file"] is not None:
            raise ValueError("give either --model_dir or --asr_model_file")
        given["asr_model_file"] = directory
    if given["ngpu"] > 0 and not torch.cuda.is_available():
        raise ValueError(f"--ngpu {given['ngpu']}, but torch sees no GPU: use --ngpu 0")
    check_recordings(given["data_path_and_name_and_type"], given["key_file"])
    ours = {name: given.pop(name) for name in OURS}
    logging.getLogger().setLevel(given["log_level"])
    with _swapped(ours):
        asr_inference.inference(**given)


@contextmanager
def _swapped(ours: dict[str, Any]) -> Iterator[None]:
    """Let ESPnet's program build our class, with our options."""

    class Chosen:
        @staticmethod
        def from_pretrained(model_tag: str | None = None, **kwargs: Any) -> Speech2Text:
            return Speech2Text.from_pretrained(model_tag, **(kwargs | ours))

    original = asr_inference.Speech2Text
    asr_inference.Speech2Text = Chosen
    try:
        yield
    finally:
        asr_inference.Speech2Text = original


def underscores(argv: Sequence[str]) -> list[str]:
    """Write `--a-b` as `--a_b`, as ESPnet's parser wants it."""
    spelled = []
    for arg in argv:
        name, equals, value = arg.partition("=")
        spelled.append(
            name.replace("-", "_").replace("__", "--", 1) + equals + value
            if name.startswith("--") and " " not in name
            else arg
        )
    return spelled
