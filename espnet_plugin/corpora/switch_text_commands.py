"""The options of `synth_data patterns` and `synth_data switch`, and what they call."""

import argparse
from pathlib import Path

from espnet_plugin.checkpoint import write_json
from espnet_plugin.corpora.switch_text_pairs import Inputs

_PAIR = "language pair whose words are tagged: a name or a YAML file"


def add_patterns(options: argparse.ArgumentParser) -> None:
    """Declare the command line of `run_patterns`."""
    options.add_argument("--input", nargs="+", required=True, help="real text: files, folders")
    options.add_argument("--field", default="text", help="field (column) of the text")
    options.add_argument("--output", type=Path, required=True, help="JSON file to write")
    options.add_argument("--pair", default="ms-en", help=_PAIR)
    options.set_defaults(call=run_patterns)


def run_patterns(args: argparse.Namespace) -> str:
    """Measure how real text switches.

    Raises:
        ValueError: No line of it switches.
    """
    from espnet_plugin.corpora.switch_patterns import measure
    from espnet_plugin.corpora.switch_text_unit import tagger_of
    from espnet_plugin.text.sources import SourceSettings, blocks, expand, fingerprint, read

    settings = SourceSettings(args.field, block_bytes=1 << 20)
    paths = expand(args.input)
    tagger = tagger_of(args.pair)
    patterns = measure((read(b, settings).texts for b in blocks(paths, settings)), tagger)
    if not patterns.switching:
        raise ValueError(
            f"{' '.join(args.input)}: none of {patterns.lines} lines switches between "
            f"{' and '.join(patterns.languages)}"
        )
    patterns.about["input"] = fingerprint(paths)
    write_json(args.output, patterns.to_json())
    figures = patterns.figures()
    return (
        f"{args.output}: {figures['switching']} of {figures['lines']} lines switch; mean CMI "
        f"{figures['cmi']}, {figures['switches_per_line']} switches a line, "
        f"{figures['embedded_words']} words in an embedded stretch"
    )


def add_switch(options: argparse.ArgumentParser) -> None:
    """Declare the command line of `run_switch`."""
    source = options.add_argument_group("sentences: one of")
    source.add_argument(
        "--parallel", nargs="+", default=[], help="two aligned .txt files, or one with --fields"
    )
    source.add_argument("--monolingual", nargs="+", default=[], help="files, folders; --lexicon")
    options.add_argument("--fields", help="FIRST,SECOND: fields of --parallel in both languages")
    options.add_argument("--field", default="text", help="field of --monolingual")
    options.add_argument("--matrix", help="language of --monolingual, where it does not say")
    options.add_argument("--lexicon", nargs="+", default=[], help="TSV of translations")
    options.add_argument(
        "--alignment", default="statistics", help="of --parallel: statistics, or lexicon"
    )
    options.add_argument("--output", type=Path, required=True, help=".jsonl file to write")
    options.add_argument("--lexicon_output", type=Path, help="write what was learnt, as a lexicon")
    options.add_argument("--exclude", nargs="*", default=[], help="sentences never used or made")
    options.add_argument("--pair", default="ms-en", help=_PAIR)
    options.add_argument("--patterns", help="JSON of synth_data patterns; else what ships")
    options.add_argument("--rules", help="YAML of words that stay together; else what ships")
    options.add_argument("--cmi", type=float, help="mean code-mixing index; else as in --patterns")
    options.add_argument("--lines", type=int, help="lines at most; else all that can be made")
    options.add_argument("--per_sentence", type=int, default=1, help="lines of a sentence at most")
    options.add_argument(
        "--turn_away", type=float, default=0.3, help="share of sentences to spare for the patterns"
    )
    options.add_argument("--tries", type=int, default=8, help="candidates drawn for a sentence")
    options.add_argument("--sample", type=int, default=100_000, help="sentence pairs to learn from")
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--nj", type=int, default=1, help="processes")
    options.set_defaults(call=run_switch)


def run_switch(args: argparse.Namespace) -> str:
    """Make code-switched text; returns the report in words."""
    from espnet_plugin.corpora.switch_text import switch_text
    from espnet_plugin.corpora.switch_text_plan import Plan
    from espnet_plugin.corpora.switch_text_report import describe
    from espnet_plugin.corpora.switch_text_run import Options
    from espnet_plugin.text.sources import expand

    fields = None
    if args.fields is not None:
        names = args.fields.split(",")
        if len(names) != 2 or not all(names):
            raise ValueError(f"--fields is FIRST,SECOND, got '{args.fields}'")
        fields = names[0], names[1]
    monolingual = tuple(map(str, expand(args.monolingual))) if args.monolingual else ()
    plan = Plan(
        Inputs(tuple(args.parallel), fields, monolingual, args.field),
        args.pair,
        tuple(args.lexicon),
        args.alignment,
        args.patterns,
        args.rules,
        args.cmi,
        args.matrix,
        args.tries,
        args.seed,
    )
    options = Options(args.lines, args.per_sentence, args.turn_away, args.sample, args.nj)
    report = switch_text(plan, args.output, options, args.exclude, args.lexicon_output)
    return describe(report, args.output)
