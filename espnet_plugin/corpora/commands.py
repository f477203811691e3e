"""The options of ``prepare_corpus`` and what they call."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.cli import parser
from espnet_plugin.corpora.archives import COMPRESSED
from espnet_plugin.corpora.corpus import REGISTRY, Corpus, corpus_named
from espnet_plugin.corpora.splits import Shares


def _boolean(value: str) -> bool:
    if value not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"'{value}' is neither true nor false")
    return value == "true"


def _words(value: str) -> list[str]:
    return value.replace(",", " ").split()


def _paths(value: str) -> list[Path]:
    """Split at commas, which leaves spaces in paths alone; at spaces where there is no comma."""
    if "," in value or Path(value).is_dir():
        return [Path(word.strip()) for word in value.split(",") if word.strip()]
    return [Path(word) for word in value.split()]


def build_parser(description: str | None) -> argparse.ArgumentParser:
    """Return the parser of ``prepare_corpus``; the parsed options have their function in `call`."""
    root = parser(description, prog="python -m espnet_plugin.bin.prepare_corpus")
    commands = root.add_subparsers(dest="command", required=True)

    options = commands.add_parser("list", help="the corpora: licence, variable, where it is")
    options.set_defaults(call=run_list)

    options = commands.add_parser("prepare", help="corpora to DATADIR/<corpus>_<split>/")
    options.add_argument(
        "--corpora", type=_words, default=[], help="which; alias=corpus for a second"
    )
    options.add_argument("--datadir", type=Path, default="data", help="where the sets go")
    options.add_argument("--nj", type=int, default=os.cpu_count() or 1, help="processes")
    options.add_argument(
        "--corpus_options",
        nargs="*",
        default=[],
        metavar="CORPUS.OPTION=VALUE",
        help="what a corpus offers (see list); several words of a value joined by commas",
    )
    options.add_argument(
        "--accept_non_commercial",
        type=_boolean,
        default=False,
        metavar="true|false",
        help="prepare corpora that must not be used commercially",
    )
    options.add_argument("--valid_share", type=float, default=Shares.valid, help="of the seconds")
    options.add_argument("--test_share", type=float, default=Shares.test, help="of the seconds")
    options.add_argument(
        "--max_hours", type=float, default=Shares.max_hours, help="of a held-out set"
    )
    options.add_argument("--seed", type=int, default=Shares.seed, help="of the split by speaker")
    options.add_argument(
        "--shared_words",
        type=int,
        default=Shares.shared_words,
        help="sentences of up to so many words may be in sets to train and to test on",
    )
    options.add_argument(
        "--keep_out",
        type=_paths,
        default=[],
        metavar="DIRS",
        help="data directories whose sentences must not be trained on",
    )
    options.add_argument(
        "--compressed", choices=COMPRESSED, default="extract", help="audio compressed in zips"
    )
    options.set_defaults(call=run_prepare)

    options = commands.add_parser("combine", help="several data directories as one")
    options.add_argument("--input", type=_paths, required=True, help="data directories")
    options.add_argument("--output", type=Path, required=True, help="the directory to make")
    options.set_defaults(call=run_combine)

    options = commands.add_parser("validate", help="check data directories by Kaldi's rules")
    options.add_argument("--input", type=_paths, required=True, help="data directories")
    options.add_argument(
        "--mend",
        type=_boolean,
        default=False,
        metavar="true|false",
        help="sort tables, drop lines given twice, write spk2utt anew",
    )
    options.set_defaults(call=run_validate)
    return root


def run_list(options: argparse.Namespace) -> None:
    """Show what can be prepared, and what is configured."""
    print(listing())


def listing() -> str:
    """Return a text about all corpora."""
    from espnet_plugin.corpora.prepare import licence_text

    blocks = []
    for corpus in map(corpus_named, sorted(REGISTRY)):
        place = os.environ.get(corpus.variable) or "not set"
        lines = [licence_text(corpus), f"  {corpus.variable}: {place}"]
        for name, option in corpus.options.items():
            lines.append(f"  option {corpus.name}.{name} [{option.default}]: {option.help}")
        blocks.append("\n".join(lines))
    return "\n".join(blocks)


def corpus_options(given: Sequence[str], corpora: Sequence[Corpus]) -> dict[str, dict[str, str]]:
    """Split ``corpus.option=value`` by corpus.

    Raises:
        ValueError: One of another form, or of a corpus that is not prepared.
    """
    tables: dict[str, dict[str, str]] = {corpus.name: {} for corpus in corpora}
    for entry in (part for text in given for part in text.split()):
        name, equals, value = entry.partition("=")
        corpus, dot, option = name.partition(".")
        if not (equals and dot and option):
            raise ValueError(f"corpus_options: '{entry}' is not CORPUS.OPTION=VALUE")
        if corpus not in tables:
            raise ValueError(
                f"corpus_options: '{entry}' is for a corpus that is not prepared; those are "
                f"{' '.join(tables)}"
            )
        tables[corpus][option] = value
    return tables


def run_prepare(options: argparse.Namespace) -> None:
    """Prepare corpora whose variables say where they are.

    Raises:
        ValueError: No corpus is named, a variable is not set, or see `prepare`.
    """
    from espnet_plugin.corpora.prepare import Settings, check_licence, licence_text, prepare

    if not options.corpora:
        raise ValueError(
            "nothing is configured: no corpora are named. Set the variable of each that you have "
            "in egs2_asyncswitch/asr1/db.sh or in the environment, and name it:\n"
            '  NSC=/data/nsc local/data.sh --corpora "nsc"\n'
            f"{listing()}"
        )
    corpora = [corpus_named(name.lower()) for name in options.corpora]
    if twice := {c.name for c in corpora if sum(c.name == d.name for d in corpora) > 1}:
        raise ValueError(f"corpora: {' '.join(sorted(twice))} is named twice")
    tables = corpus_options(options.corpus_options, corpora)
    shares = Shares(
        options.valid_share,
        options.test_share,
        options.max_hours,
        options.seed,
        options.shared_words,
    )
    missing = [corpus for corpus in corpora if not os.environ.get(corpus.variable)]
    if missing:
        raise ValueError(
            "\n".join(
                f"{c.variable}{f' (another {c.kind})' if c.kind else ''} is not set; db.sh or the "
                f"environment says where {c.title} is.\n"
                f"Get it at {c.where}. Expected below it:\n{c.layout}"
                for c in missing
            )
        )
    for corpus in corpora:  # all licences before any work
        print(licence_text(corpus), flush=True)
    for corpus in corpora:
        check_licence(corpus, options.accept_non_commercial)
    for corpus in corpora:
        settings = Settings(
            tables[corpus.name],
            shares,
            options.compressed,
            tuple(options.keep_out),
            options.accept_non_commercial,
            options.nj,
        )
        print(prepare(corpus, os.environ[corpus.variable], options.datadir, settings), flush=True)


def run_combine(options: argparse.Namespace) -> None:
    """Merge data directories; what was made of the same is kept."""
    from espnet_plugin.corpora.combine import combine, combined

    earlier = combined(options.input, options.output)
    count = combine(options.input, options.output) if earlier is None else earlier
    done = "" if earlier is None else "; done already"
    print(f"{options.output}: {count} utterances of {' '.join(map(str, options.input))}{done}")


def run_validate(options: argparse.Namespace) -> int:
    """Check data directories; 1 where one is not valid."""
    from espnet_plugin.corpora.mend import mend_data_dir
    from espnet_plugin.corpora.validate import validate_data_dir

    code = 0
    for path in options.input:
        if options.mend:
            for change in mend_data_dir(path):
                print(f"mended: {change}")
        faults = validate_data_dir(path)
        for fault in faults:
            print(fault)
        print(f"{path}: {'not valid' if faults else 'valid'}")
        code = code or int(bool(faults))
    return code
