"""The options of `synth_data splice` and `synth_data speak`, and what they call."""

import argparse
from collections.abc import Sequence
from pathlib import Path


def add_splice(options: argparse.ArgumentParser) -> None:
    """Declare the command line of `run_splice`."""
    options.add_argument(
        "--input", nargs="+", required=True, help="monolingual data directories with utt2times"
    )
    what = options.add_argument_group("what is said: one of")
    what.add_argument("--lines", type=Path, help="code-switched lines, .jsonl")
    what.add_argument(
        "--lexicon", nargs="+", default=[], help="TSV: exchange its phrases in the recordings' text"
    )
    options.add_argument("--output", type=Path, required=True, help="data directory to make")
    options.add_argument("--max_pieces", type=int, default=1, help="recordings of one stretch")
    options.add_argument("--same_speaker", default="preferred", help="preferred, or required")
    options.add_argument("--patterns", help="with --lexicon: JSON of synth_data patterns")
    options.add_argument("--rules", help="with --lexicon: YAML of words that stay together")
    options.add_argument("--cmi", type=float, help="with --lexicon: mean code-mixing index")
    options.add_argument(
        "--per_sentence", type=int, default=1, help="with --lexicon: lines of a sentence at most"
    )
    options.add_argument(
        "--max_failed", type=float, default=1.0, help="largest share of lines that may fail"
    )
    _add_common(options)
    options.set_defaults(call=run_splice)


def add_speak(options: argparse.ArgumentParser) -> None:
    """Declare the command line of `run_speak`."""
    options.add_argument("--lines", type=Path, required=True, help="lines to speak, .jsonl")
    options.add_argument("--output", type=Path, required=True, help="data directory to make")
    options.add_argument("--synthesiser", default="espeak", help="espeak, or a YAML file")
    options.add_argument(
        "--max_failed", type=float, default=0.05, help="largest share of lines that may fail"
    )
    _add_common(options)
    options.set_defaults(call=run_speak)


def _add_common(options: argparse.ArgumentParser) -> None:
    options.add_argument("--exclude", nargs="*", default=[], help="sentences never spoken")
    options.add_argument("--pair", default="ms-en", help="language pair: a name or a YAML file")
    options.add_argument(
        "--utterances", type=int, help="utterances at most; else one for each line"
    )
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--nj", type=int, default=1, help="how many are made at a time")


def _languages(pair: str) -> tuple[str, str]:
    from espnet_plugin.text.tags.pair import load_pair

    first, second = (language.code for language in load_pair(pair).languages)
    return first, second


def _excluded(paths: Sequence[str]) -> frozenset[int]:
    """Read validation and test sentences as hashes."""
    from espnet_plugin.corpora.switch_text import sentence_hashes
    from espnet_plugin.text.sources import expand

    return frozenset(sentence_hashes(expand(paths)).tolist()) if paths else frozenset()


def run_splice(args: argparse.Namespace) -> str:
    """Splice recordings; returns the report in words.

    Raises:
        ValueError: Neither or both of lines and a lexicon are given.
    """
    from espnet_plugin.corpora.splice import SpliceOptions, load_bank, splice
    from espnet_plugin.corpora.synthesiser_set import describe

    if (args.lines is None) == (not args.lexicon):
        raise ValueError("splice says either --lines, or what a --lexicon makes of the recordings")
    languages = _languages(args.pair)
    options = SpliceOptions(
        args.utterances,
        args.max_pieces,
        args.same_speaker,
        args.max_failed,
        args.seed,
        args.nj,
    )
    lines, bank, words = args.lines, None, ""
    if lines is None:
        bank = load_bank(args.input, languages)
        lines, words = _switch_recorded(args, bank, languages)
    excluded = _excluded(args.exclude)
    report = splice(args.input, lines, args.output, languages, options, excluded, bank)
    return words + describe(report, args.output)


def _switch_recorded(
    args: argparse.Namespace, bank: object, languages: tuple[str, str]
) -> tuple[Path, str]:
    """Exchange recorded phrases in the recordings' own sentences."""
    from espnet_plugin.checkpoint import atomic_write
    from espnet_plugin.corpora.phrases import KEEP
    from espnet_plugin.corpora.splice import recorded
    from espnet_plugin.corpora.splice_bank import Bank
    from espnet_plugin.corpora.switch_text import switch_text
    from espnet_plugin.corpora.switch_text_lexicon import read_lexicon
    from espnet_plugin.corpora.switch_text_pairs import Inputs
    from espnet_plugin.corpora.switch_text_plan import Plan
    from espnet_plugin.corpora.switch_text_report import describe
    from espnet_plugin.corpora.switch_text_run import Options

    assert isinstance(bank, Bank)
    lexicon = read_lexicon(args.lexicon, languages)
    usable = args.output.with_name(f"{args.output.name}_lexicon.tsv")
    lines = args.output.with_name(f"{args.output.name}_lines.jsonl")
    with atomic_write(usable, "w") as file:
        for category, pairs in ((KEEP, lexicon.keep), ("-", recorded(lexicon, bank, languages))):
            file.writelines(f"{category}\t{one}\t{two}\n" for one, two in pairs)
    texts = tuple(str(Path(path) / "text") for path in args.input)
    plan = Plan(
        Inputs(monolingual=texts),
        args.pair,
        (str(usable),),
        patterns=args.patterns,
        rules=args.rules,
        cmi=args.cmi,
        seed=args.seed,
    )
    options = Options(per_sentence=args.per_sentence, nj=args.nj)
    report = switch_text(plan, lines, options, args.exclude)
    return lines, describe(report, lines) + "\n"


def run_speak(args: argparse.Namespace) -> str:
    """Speak lines; returns the report in words."""
    from espnet_plugin.corpora.synthesiser_config import read_config
    from espnet_plugin.corpora.synthesiser_set import describe
    from espnet_plugin.corpora.synthesiser_speech import SpeakOptions, speak

    options = SpeakOptions(args.utterances, args.max_failed, args.seed, args.nj)
    report = speak(
        args.lines,
        args.output,
        _languages(args.pair),
        read_config(args.synthesiser),
        options,
        _excluded(args.exclude),
    )
    return describe(report, args.output)
