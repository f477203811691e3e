"""How to decode, and the command line of recipe stage 12. Needs no torch: `--help` is quick."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from fnmatch import fnmatchcase
from typing import Any

from espnet_plugin.cli import nearest, parser
from espnet_plugin.data.commands import boolean, words
from espnet_plugin.prompt import parse_lang_tokens

PADS = ("batch", "30s")
ON_LOOP = ("retry", "keep")
SUPPRESS = ("none", "begin", "whisper")
DTYPES = ("float32", "bfloat16", "float16")


def _option(default: Any, text: str, known: Sequence[str] = ()) -> Any:
    """Declare a field that is a command line option as well."""
    return field(default=default, metadata={"help": text, "choices": known})


@dataclass(frozen=True)
class Options:
    """How to decode: all that changes a result, with its help and what is allowed."""

    pad: str = _option("batch", "batch: masked, as long as needed; 30s: Whisper's own", PADS)
    tail: float = _option(
        0.0,
        "seconds of silence to hear after each utterance with --pad batch; a released Whisper, "
        "which has only ever heard 30 s, repeats itself without (4 to 8 suffice)",
    )
    lang_tokens: str = _option("cs:ms ms:ms en:en", "data language:Whisper language")
    beam_size: int = _option(1, "hypotheses kept; 1 is greedy")
    normalize_length: bool = _option(False, "rank the beam by the mean score of a token")
    max_tokens_per_second: float = _option(
        12.0,
        "guard against endless repetition: the end is forced after this many tokens for each "
        "second of audio, and 10 more (counted in decode.json); 0: only at Whisper's 448 positions",
    )
    on_loop: str = _option(
        "retry",
        "text that repeats itself (zlib makes it 2.4 times smaller, or the limit forced its end): "
        "retry: decode it again by a beam that writes no three tokens in a row twice, and take "
        "that if it is no loop; keep: leave it (counted in decode.json)",
        ON_LOOP,
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
        for name in ("max_tokens_per_second", "tail"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is negative: {getattr(self, name)}")
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
    add("--workers", type=int, default=1, help="processes: a GPU each, or a share of the cores")
    text = "SYSTEM:OPTION=VALUE ...: decode it otherwise: whisper_base:pad=30s, *:dtype=float16"
    add("--override", type=words, default=[], help=text)
    text = "PREFIX=BASE:TUNED ...: merge PREFIX<ratio> in memory where it has no directory"
    add("--merges", type=words, default=[], help=text)
    text = "SET:PATTERN,...: decode a set with these systems only, e.g. valid:init,merge_*"
    add("--only", type=str.split, default=[], help=text)
    add("--force", action="store_true", help="decode what is decoded already")
    add_options(made)
    return made


def options_of(
    systems: Sequence[str], options: Options, overrides: Sequence[str]
) -> dict[str, Options]:
    """Say how each system is decoded.

    Args:
        systems: Names.
        options: Of all systems.
        overrides: `SYSTEM:OPTION=VALUE`; SYSTEM may be a pattern, such as `merge_*`.

    Returns:
        Options by name, in order.

    Raises:
        ValueError: If an override is malformed, or names an unknown system, option or value.
    """
    known = {option.name: option for option in fields(Options)}
    chosen = dict.fromkeys(systems, options)
    for entry in overrides:
        match = re.fullmatch(r"([^:=]+):(\w+)=(.+)", entry)
        if match is None:
            raise ValueError(f"override '{entry}' is not SYSTEM:OPTION=VALUE")
        pattern, name, value = match.groups()
        meant = [system for system in chosen if fnmatchcase(system, pattern)]
        named = (("system", pattern, chosen, meant), ("option", name, known, name in known))
        for what, given, allowed, there in named:
            if not there:
                hint = nearest(given, allowed)
                listed = ", ".join(allowed)
                raise ValueError(
                    f"override '{entry}': no {what} '{given}'{hint}; there are {listed}"
                )
        kind: Any = boolean if known[name].type is bool else known[name].type
        try:
            for system in meant:
                chosen[system] = replace(chosen[system], **{name: kind(value)})
        except (ValueError, argparse.ArgumentTypeError) as error:
            raise ValueError(f"override '{entry}': {error}") from None
    return chosen


def merges_of(texts: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Parse merges in memory, e.g. `merge_=init:adapt_full`.

    Raises:
        ValueError: If one is not `PREFIX=BASE:TUNED`, or a prefix is given twice.
    """
    found: dict[str, tuple[str, str]] = {}
    for text in texts:
        match = re.fullmatch(r"([^=:/]+)=([^=:/]+):([^=:/]+)", text)
        if match is None or match[1] in found:
            raise ValueError(f"--merges is PREFIX=BASE:TUNED, each prefix once; got '{text}'")
        found[match[1]] = (match[2], match[3])
    return found


def only_of(
    texts: Sequence[str], systems: Sequence[str], sets: Sequence[str]
) -> dict[str, list[str]]:
    """Say which systems a set is decoded with, where it is not with all.

    Args:
        texts: `SET:PATTERN,PATTERN`, e.g. `valid:init,merge_*`.
        systems: Names of systems.
        sets: Names of sets.

    Returns:
        Systems by set, for the sets that are named.

    Raises:
        ValueError: If one is malformed, or names an unknown set, or no system matches.
    """
    found: dict[str, list[str]] = {}
    for text in texts:
        name, _, patterns = text.partition(":")
        if name not in sets:
            listed = ", ".join(sets)
            raise ValueError(f"--only '{text}': no set '{name}'{nearest(name, sets)}; got {listed}")
        found[name] = [s for s in systems if any(fnmatchcase(s, p) for p in patterns.split(","))]
        if not found[name]:
            raise ValueError(f"--only '{text}' matches none of the systems: {', '.join(systems)}")
    return found


def run_decode(args: argparse.Namespace) -> None:
    """Decode as the parsed options say."""
    given = vars(args)
    common = Options(**{option.name: given.pop(option.name) for option in fields(Options)})
    options = options_of(given["systems"], common, given.pop("override"))
    merges = merges_of(given.pop("merges"))
    only = only_of(given.pop("only"), given["systems"], given["sets"])
    import torch

    from espnet_plugin.decode.runner import decode_sets

    device = given.pop("device") or ("cuda" if torch.cuda.is_available() else "cpu")
    decode_sets(options=options, device=device, merges=merges, only=only, **given)
