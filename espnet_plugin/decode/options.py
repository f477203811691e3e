"""How to decode, and the command line of recipe stage 12. Needs no torch: `--help` is quick."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from espnet_plugin.cli import nearest, parser
from espnet_plugin.data.commands import boolean, words
from espnet_plugin.prompt import parse_lang_tokens

PADS = ("batch", "30s")
SUPPRESS = ("none", "begin", "whisper")
DTYPES = ("float32", "bfloat16", "float16")


def _option(default: Any, text: str, known: Sequence[str] = ()) -> Any:
    """Declare a field that is a command line option as well."""
    return field(default=default, metadata={"help": text, "choices": known})


@dataclass(frozen=True)
class Options:
    """How to decode: all that changes a result, with its help and what is allowed."""

    pad: str = _option("batch", "batch: masked, as long as needed; 30s: Whisper's own", PADS)
    lang_tokens: str = _option("cs:ms ms:ms en:en", "data language:Whisper language")
    beam_size: int = _option(1, "hypotheses kept; 1 is greedy")
    normalize_length: bool = _option(False, "rank the beam by the mean score of a token")
    max_tokens_per_second: float = _option(
        12.0,
        "guard against endless repetition: the end is forced after this many tokens for each "
        "second of audio, and 10 more (counted in decode.json); 0: only at Whisper's 448 positions",
    )
    suppress: str = _option(
        "none",
        "what is never written: none; begin: no empty text; whisper: nor the symbols that other "
        "runtimes suppress",
        SUPPRESS,
    )
    timestamps: bool = _option(False, "generate timestamps; they are not in the text")
    dtype: str = _option("float32", "of weights and activations", DTYPES)

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: If a value is not allowed; names what is.
        """
        for option in fields(self):
            value, known = getattr(self, option.name), option.metadata["choices"]
            if known and value not in known:
                hint = nearest(str(value), known)
                raise ValueError(f"{option.name} is one of {', '.join(known)}, got '{value}'{hint}")
        if self.beam_size < 1:
            raise ValueError(f"beam_size must be at least 1, got {self.beam_size}")
        if self.max_tokens_per_second < 0:
            raise ValueError(f"max_tokens_per_second is negative: {self.max_tokens_per_second}")
        parse_lang_tokens(self.lang_tokens)


def add_options(to: argparse.ArgumentParser) -> None:
    """Declare the fields of `Options` as command line options."""
    for option in fields(Options):
        kind: Any = boolean if option.type is bool else option.type
        known = option.metadata["choices"] or None
        name, text = f"--{option.name}", option.metadata["help"]
        to.add_argument(name, type=kind, default=option.default, choices=known, help=text)


def decode_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of `bin.decode`."""
    made = parser(description, prog="python -m espnet_plugin.bin.decode")
    add = made.add_argument
    add("--expdir", default="exp", help="where the systems are")
    add("--systems", type=words, required=True, help="model directories there")
    add("--sets", type=words, required=True, help="sets of --dumpdir")
    add("--dumpdir", default="dump/raw", help="formatted sets (stage 3)")
    add("--tag", default="greedy", help="names the results: EXPDIR/SYSTEM/decode_TAG/SET")
    add("--batch_size", type=int, default=32, help="utterances (or beams) decoded together")
    add("--batch_seconds", type=float, default=480.0, help="audio decoded together, with padding")
    add("--device", default=None, help="cpu, cuda, cuda:1, ...; default: a GPU where there is one")
    add("--force", action="store_true", help="decode what is decoded already")
    add_options(made)
    return made


def run_decode(args: argparse.Namespace) -> None:
    """Decode as the parsed options say."""
    given = vars(args)
    options = Options(**{option.name: given.pop(option.name) for option in fields(Options)})
    import torch

    from espnet_plugin.decode.runner import decode_sets

    device = given.pop("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    decode_sets(options=options, device=device, **given)
