r"""What a corpus is to the frame: where it lies, its licence, its units of work, its rows.

A corpus is one small file with two functions and one object. For a folder that holds `lines.tsv`
(``file<TAB>speaker<TAB>text``) and the files that it names:

    # example.py: a table of WAV files

    def find(root, options):  # here and in order: what there is to do
        table = existing_folder(root, CORPUS) / "lines.tsv"
        if not table.is_file():
            raise wrong_root(root, CORPUS)
        yield Unit("lines.tsv", files=(str(table),))

    def read(unit, context):  # in some process: the rows of one unit, in order
        folder = context.open(context.root)
        for line in Path(unit.files[0]).read_text("utf-8").splitlines():
            file, speaker, text = line.split("\t")
            try:
                audio = folder.audio(file)
            except AudioError as error:
                yield Skip(file, "unusable audio", str(error))
                continue
            yield Row(Path(file).stem, speaker, text, "ms", audio.source, audio.seconds)

    CORPUS = Corpus(
        "example", "EXAMPLE", "An example", Licence("CC BY 4.0", commercial=True),
        where="https://example.org", layout="lines.tsv and the files that it names",
        find=find, read=read,
    )

and a line ``"example": "espnet_plugin.corpora.example:CORPUS"`` in `REGISTRY`. The frame
(`prepare`) makes ids, fits segments to recordings, refuses what no table can hold, splits by
speaker, keeps train and test apart, sorts, writes, counts, and resumes.
"""

import dataclasses
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.cli import nearest
from espnet_plugin.corpora.archives import AudioError, Files, open_files

__all__ = [
    "AudioError",
    "Context",
    "Corpus",
    "Files",
    "Licence",
    "Option",
    "Row",
    "Skip",
    "Unit",
    "corpus_named",
    "existing_folder",
    "read_options",
    "wrong_root",
]

# Corpus -> module:object, so that naming the corpora imports none of them.
REGISTRY = {
    "common_voice": "espnet_plugin.corpora.common_voice:CORPUS",
    "en_malay_cs": "espnet_plugin.corpora.en_malay_cs:CORPUS",
    "esb": "espnet_plugin.corpora.esb:CORPUS",
    "fleurs": "espnet_plugin.corpora.fleurs:CORPUS",
    "fleurs_en": "espnet_plugin.corpora.fleurs:ENGLISH",
    "fleurs_ms": "espnet_plugin.corpora.fleurs:MALAY",
    "imda_stt": "espnet_plugin.corpora.imda_stt:CORPUS",
    "librispeech": "espnet_plugin.corpora.librispeech:CORPUS",
    "malay_conversational": "espnet_plugin.corpora.malay_conversational:CORPUS",
    "malaysian_stt": "espnet_plugin.corpora.malaysian_stt:CORPUS",
    "malaysian_youtube": "espnet_plugin.corpora.malaysian_stt:YOUTUBE",
    "manifest": "espnet_plugin.corpora.manifest:CORPUS",
    "mnsc": "espnet_plugin.corpora.mnsc:CORPUS",
    "nsc": "espnet_plugin.corpora.nsc:CORPUS",
    "spontaneous_speech": "espnet_plugin.corpora.spontaneous_speech:CORPUS",
    "synth_manglish": "espnet_plugin.corpora.synth_manglish:CORPUS",
}


@dataclass(frozen=True)
class Licence:
    """The terms of a corpus.

    Attributes:
        name: As its makers call it; ``none declared`` where they say nothing.
        commercial: Whether commercial use is allowed; None where nobody says. Where it is False the
            user must accept that first.
        note: What else to know, e.g. how to ask for it.
    """

    name: str
    commercial: bool | None
    note: str = ""


@dataclass(frozen=True)
class Option:
    """A choice that a corpus offers, given as ``corpus.option=value``.

    Attributes:
        default: The value where nothing is given.
        help: What it does, one line.
        choices: What each of the value's words (split at spaces, commas) may be; empty: anything.
    """

    default: str
    help: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Unit:
    """A part of the corpus that one process reads: small (up to some 10 000 rows), picklable.

    Attributes:
        key: Its name, unique in the corpus and the same in every run.
        files: What it is read from. A unit whose files have changed is read again.
        data: Whatever `read` needs to know; picklable.
        weight: Its share of the work, for the time left.
    """

    key: str
    files: tuple[str, ...] = ()
    data: Any = None
    weight: int = 1


@dataclass(slots=True)
class Row:
    """An utterance.

    Attributes:
        name: Its name, unique for its speaker (or in the corpus, where no speaker is known).
        speaker: Unique in the corpus; None where nobody knows.
        text: The transcript as it is to be trained on, without markup.
        lang: ``cs``, ``ms``, ``en`` or another code.
        source: The ``wav.scp`` value; `Files.audio` gives it.
        seconds: Length of the recording, in seconds.
        recording: Name of the recording, unique in the corpus, where the utterance is a part of it.
        start: Where it starts in the recording, seconds.
        end: Where it ends.
        tags: A tag for each normalised word (see `marked`); None where the corpus has none.
        times: ``(start, end, words)`` of timed stretches, in seconds from the utterance's start;
            the words, split at white space, add up to those of `text`.
        subset: Part of the corpus that becomes sets of its own: ``<corpus>_<subset>_<split>``.
        split: The official split (``train...``, ``valid...`` or ``dev...``, ``test...``); None
            where there is none: the frame then splits by speaker.
        group: What else must not be torn apart by a split, e.g. a conversation.
        notes: Oddities that were put right; counted in the report.
        items: How many of the corpus's own items (intervals) the row was made of.
    """

    name: str
    speaker: str | None
    text: str
    lang: str
    source: str
    seconds: float
    recording: str | None = None
    start: float | None = None
    end: float | None = None
    tags: Sequence[str] | None = None
    times: Sequence[tuple[float, float, int]] | None = None
    subset: str = ""
    split: str | None = None
    group: str | None = None
    notes: Sequence[str] = ()
    items: int = 1


@dataclass(slots=True)
class Skip:
    """An item that is no utterance, and why.

    Attributes:
        item: What it is called in the corpus, so that somebody can find it.
        reason: Few words, the same for all such items: they are counted by it.
        detail: What was found.
        items: How many items this stands for (``12 pauses``).
    """

    item: str
    reason: str
    detail: str = ""
    items: int = 1


@dataclass(frozen=True)
class Context:
    """What a corpus's `read` is given besides the unit.

    Attributes:
        root: Where the corpus is, as the user gave it.
        options: The values of the corpus's options.
        media: Folder for what has to be unpacked.
        compressed: ``extract`` compressed audio, or refer to it by a ``pipe``.
    """

    root: str
    options: Mapping[str, str] = field(default_factory=dict)
    media: Path = Path("media")
    compressed: str = "extract"

    def open(self, path: str | Path) -> Files:
        """Open a folder, ``.zip`` or ``.tar[.gz|.xz|.bz2]`` to read files of; it stays open.

        Raises:
            FileNotFoundError: There is none.
            ArchiveError: It is damaged.
            ValueError: Not such a file, or a member's name would lead outside.
        """
        return open_files(str(path), str(self.media), self.compressed)


@dataclass(frozen=True)
class Corpus:
    """A corpus that can be prepared.

    Attributes:
        name: Lower case; the prefix of its sets and ids.
        variable: In ``db.sh`` or the environment: where it is.
        title: For people.
        licence: Its terms.
        where: Where to get it.
        layout: What lies below the root; shown where the root is wrong.
        find: ``find(root, options)`` yields the units, always in the same order, without reading
            much; FileNotFoundError (`wrong_root`) where the root holds no such corpus.
        read: ``read(unit, context)`` yields the rows and skips of a unit, in order. Both functions
            stand at the top of their module, for other processes.
        options: By name.
        version: Raised when the same input gives other output.
        kind: Of an alias, the variable of the corpus that it is another one of; else empty.
    """

    name: str
    variable: str
    title: str
    licence: Licence
    where: str
    layout: str
    find: Callable[[str, Mapping[str, str]], Iterable[Unit]]
    read: Callable[[Unit, Context], Iterator[Row | Skip]]
    options: Mapping[str, Option] = field(default_factory=dict)
    version: int = 1
    kind: str = ""


def corpus_named(name: str) -> Corpus:
    """Return a corpus by its name.

    Args:
        name: One of `REGISTRY`, or ``alias=name`` for a second corpus of that kind: its sets and
            its variable (upper case) then have the alias's name.

    Raises:
        ValueError: There is no such corpus; suggests the nearest.
    """
    alias, equals, base = name.partition("=")
    base = base if equals else alias
    if base not in REGISTRY:
        raise ValueError(
            f"no corpus is called '{base}'{nearest(base, REGISTRY)}; there are "
            f"{' '.join(sorted(REGISTRY))}"
        )
    module, _, attribute = REGISTRY[base].partition(":")
    corpus: Corpus = getattr(importlib.import_module(module), attribute)
    if not equals:
        return corpus
    if not (alias.isascii() and alias.isidentifier() and alias == alias.lower()):
        raise ValueError(f"'{name}': an alias has lower-case letters, digits and _ only")
    return dataclasses.replace(corpus, name=alias, variable=alias.upper(), kind=corpus.variable)


def read_options(corpus: Corpus, given: Mapping[str, str]) -> dict[str, str]:
    """Fill in the defaults of a corpus's options, and check what was given.

    Args:
        corpus: The corpus.
        given: Values by option name.

    Raises:
        ValueError: An option or a word that the corpus does not have.
    """
    for name, value in given.items():
        if name not in corpus.options:
            raise ValueError(
                f"{corpus.name} has no option '{name}'{nearest(name, corpus.options)}; it has "
                f"{' '.join(corpus.options) or 'none'}"
            )
        choices = corpus.options[name].choices
        for word in value.replace(",", " ").split() if choices else []:
            if word not in choices:
                raise ValueError(
                    f"{corpus.name}.{name}: '{word}'{nearest(word, choices)} is not one of "
                    f"{' '.join(choices)}"
                )
    return {name: option.default for name, option in corpus.options.items()} | dict(given)


def wrong_root(root: str | Path, corpus: Corpus, found: Iterable[str] = ()) -> FileNotFoundError:
    """Make the error for a root without the corpus: says what was expected there and what is."""
    names = sorted(found) or (
        sorted(path.name for path in Path(root).iterdir()) if Path(root).is_dir() else []
    )
    shown = ", ".join(names[:8]) + (", ..." if len(names) > 8 else "")
    return FileNotFoundError(
        f"{corpus.variable}={root}: {corpus.title} is not there. Expected below it:\n"
        f"{corpus.layout}\nFound: {shown or 'nothing'}"
    )


def existing_folder(root: str | Path, corpus: Corpus) -> Path:
    """Return the root as a path.

    Raises:
        FileNotFoundError: It does not exist or is no folder.
    """
    path = Path(root)
    if not path.is_dir():
        kind = "not a folder" if path.exists() else "no such folder"
        raise FileNotFoundError(
            f"{corpus.variable}={root}: {kind}; it should hold {corpus.title}:\n{corpus.layout}"
        )
    return path
