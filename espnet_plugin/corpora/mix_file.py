"""Phrase mixing from file to file, and its command line."""

import argparse
import hashlib
import json
from collections.abc import Collection, Sequence
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.corpora.phrase_mix import MixOptions, mix, report
from espnet_plugin.corpora.phrases import PhraseIndex, read_phrases
from espnet_plugin.corpora.text_lines import check_output, read_excluded, read_lines, write_lines
from espnet_plugin.text import NORMALIZER_VERSION


def mix_file(
    source: Path,
    phrases: Sequence[Path],
    output: Path,
    options: MixOptions,
    exclude: Sequence[Path] = (),
) -> str:
    """Mix a file of hand-written lines into another file.

    Args:
        source: Hand-written lines, ``.jsonl``.
        phrases: Phrase lists.
        output: The ``.jsonl`` file to write, atomically.
        options: Number, seed, rates.
        exclude: Files of validation and test sentences.

    Returns:
        The counts, in words; where the file is there already, made of the same, nothing is done.

    Raises:
        FileNotFoundError: A missing file.
        ValueError: A malformed file, a leak, too few distinct lines, or an output that was there
            and was not made so.
    """
    excluded = read_excluded(exclude)
    key = _key(source, phrases, options, excluded)
    stamp = output.with_name(f".{output.stem}.mix.json")
    check_output(output, [stamp])
    if stamp.is_file() and output.is_file():
        made = json.loads(stamp.read_text(encoding="utf-8"))
        if (made["key"], made["bytes"]) == (key, output.stat().st_size):
            return f"unchanged: {made['report']}"
    index = PhraseIndex(phrase for path in phrases for phrase in read_phrases(path))
    lines = mix(read_lines(source), index, options, excluded)
    with atomic_write(stamp, "w") as file:  # begun: a killed run may be run again
        json.dump({"key": "", "bytes": -1}, file)
    write_lines(output, lines)
    text = str(report(lines, options.lines))
    with atomic_write(stamp, "w") as file:
        json.dump({"key": key, "bytes": output.stat().st_size, "report": text}, file, indent=1)
    return text


def _key(
    source: Path, phrases: Sequence[Path], options: MixOptions, excluded: Collection[str]
) -> str:
    """Hash what decides the outcome: text, phrases, options, excluded sentences, this code."""
    for path in (source, *phrases):
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing")
    code = [path for path in sorted(Path(__file__).parent.glob("*.py")) if "demo" not in path.name]
    parts = [path.read_bytes() for path in (source, *phrases, *code)]
    parts += [
        repr(options).encode(),
        NORMALIZER_VERSION.encode(),
        *map(str.encode, sorted(excluded)),
    ]
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def add_options(options: argparse.ArgumentParser) -> None:
    """Declare the command line of ``mix_with``."""
    options.add_argument("--input", type=Path, required=True, help="hand-written lines, .jsonl")
    options.add_argument(
        "--phrases", type=Path, required=True, action="append", help="phrase list; may be repeated"
    )
    options.add_argument("--output", type=Path, required=True, help=".jsonl file to write")
    options.add_argument("--lines", type=int, default=20_000, help="distinct lines, input included")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--switch_rate", type=float, default=MixOptions.switch_rate)
    options.add_argument("--keep_rate", type=float, default=MixOptions.keep_rate)
    options.add_argument("--category_rate", type=float, default=MixOptions.category_rate)
    options.add_argument(
        "--exclude",
        type=Path,
        nargs="*",
        default=[],
        help="sentences never made: .jsonl, Kaldi text",
    )


def mix_with(args: argparse.Namespace) -> str:
    """Mix as the command line says."""
    options = MixOptions(
        args.lines, args.seed, args.switch_rate, args.keep_rate, args.category_rate
    )
    return mix_file(args.input, args.phrases, args.output, options, args.exclude)
