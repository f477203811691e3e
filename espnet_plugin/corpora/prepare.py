"""From a corpus as people download it to Kaldi data directories: the frame that all corpora share.

`corpus` says what a corpus is, with an example. Here its units are read in several processes
(`spool.read_unit`) into an SQLite file, splits are decided (`splits`), and the sorted rows become
``data/<corpus>[_<subset>]_<split>/`` (`set_writer`). Everything streams: memory does not grow with
the number of utterances. A killed run goes on with the units that it has not read yet; a finished
one with the same input does nothing. Beside the sets lie

    <corpus>.json           the report: counts that add up, licence, what was checked
    <corpus>_skipped.tsv    every skipped item: name, reason, what was found, how many items it is
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import atomic_write, read_json, write_json
from espnet_plugin.cli import progress
from espnet_plugin.corpora.archives import COMPRESSED, ArchiveError
from espnet_plugin.corpora.corpus import Context, Corpus, Unit, read_options
from espnet_plugin.corpora.set_writer import MADE_BY, SetFacts, planned_sets, write_sets
from espnet_plugin.corpora.splits import Shares, assign_splits, hold_out, rank_of, shared
from espnet_plugin.corpora.spool import Spool, UnitRows, read_unit

VERSION = 2  # raised when the same input gives other output


@dataclass(frozen=True)
class Settings:
    """How corpora are prepared.

    Attributes:
        options: The corpus's own options, by name.
        shares: What is held out where there are no official splits.
        compressed: ``extract`` compressed audio out of zips, or refer to it by a ``pipe``.
        keep_out: Data directories whose sentences no training or validation set may have.
        non_commercial: The user accepts licences that forbid commercial use.
        nj: Processes. The result does not depend on it.
    """

    options: Mapping[str, str] = field(default_factory=dict)
    shares: Shares = field(default_factory=Shares)
    compressed: str = "extract"
    keep_out: tuple[Path, ...] = ()
    non_commercial: bool = False
    nj: int = 1

    def __post_init__(self) -> None:
        if self.compressed not in COMPRESSED:
            raise ValueError(f"compressed is '{self.compressed}', not {' or '.join(COMPRESSED)}")
        if self.nj < 1:
            raise ValueError(f"nj is at least 1, got {self.nj}")


@dataclass
class Report:
    """What became of a corpus. ``items == kept + skipped``, each item counted once.

    Attributes:
        corpus: Its name.
        licence: Its terms.
        items: What the corpus has, in its own units (lines, intervals).
        kept: How many of them are in a set.
        skipped: The others, by reason.
        notes: What was put right, by kind; these items are kept.
        sets: Facts by set.
        shared: Speakers and sentences that sets to train on share with held-out ones: none.
        unknown_speakers: Utterances without a known speaker, for which that says nothing.
        warnings: What the user should know.
        done: A run before had made it; nothing was touched.
    """

    corpus: str
    licence: str
    items: int = 0
    kept: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    notes: dict[str, int] = field(default_factory=dict)
    sets: dict[str, dict[str, Any]] = field(default_factory=dict)
    shared: dict[str, int] = field(default_factory=dict)
    unknown_speakers: int = 0
    warnings: list[str] = field(default_factory=list)
    done: bool = False

    def __str__(self) -> str:
        again = "; done already" if self.done else ""
        lines = [f"{self.corpus}: {self.items} items, {self.kept} kept{again}"]
        lines += [f"  skipped: {reason}: {n}" for reason, n in self.skipped.items()]
        lines += [f"  put right: {note}: {n}" for note, n in self.notes.items()]
        for name, facts in self.sets.items():
            langs = " ".join(f"{lang}:{n}" for lang, n in facts["languages"].items())
            speakers = f"{facts['speakers']} speakers" if facts["speakers"] else "speakers unknown"
            lines.append(
                f"  {name}: {facts['utterances']} utterances, {facts['seconds'] / 3600:.2f} h, "
                f"{speakers}, {langs}"
            )
        both = f"{self.shared['speakers']} speakers and {self.shared['sentences']} sentences"
        lines.append(f"  shared by sets to train on and held-out ones: {both}")
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        return "\n".join(lines)


def licence_text(corpus: Corpus) -> str:
    """Return what a user has to know before using the corpus."""
    licence = corpus.licence
    use = {True: "commercial use allowed", False: "NO commercial use", None: "nobody says what for"}
    text = f"{corpus.name}: {corpus.title}\n  licence: {licence.name} ({use[licence.commercial]})"
    return text + "".join(f"\n  {line}" for line in (licence.note, corpus.where) if line)


def check_licence(corpus: Corpus, non_commercial: bool) -> None:
    """Refuse a corpus whose licence forbids commercial use, unless the user accepts that.

    Raises:
        ValueError: It does; says which option accepts it.
    """
    if corpus.licence.commercial is False and not non_commercial:
        raise ValueError(
            f"{licence_text(corpus)}\n{corpus.name} may not be used commercially; if that is fine, "
            "give --accept_non_commercial true"
        )


def _state(unit: Unit) -> str:
    """Return what tells whether a unit's files have changed."""
    state: list[Any] = []
    for name in unit.files:
        stat = os.stat(name)
        state.append([name, stat.st_size, stat.st_mtime_ns])
    text = json.dumps([state, unit.data], default=str)
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _results(
    corpus: Corpus, units: list[Unit], context: Context, nj: int
) -> Iterator[tuple[Unit, UnitRows]]:
    """Read units, in processes where that pays; results come in order, few are held."""
    if nj == 1 or len(units) < 2:
        yield from ((unit, read_unit(corpus, unit, context)) for unit in units)
        return
    method = multiprocessing.get_context("spawn")  # forking is unsafe beside other threads
    with ProcessPoolExecutor(min(nj, len(units)), mp_context=method) as pool:
        waiting: deque[tuple[Unit, Future[UnitRows]]] = deque()
        try:
            for unit in units:
                waiting.append((unit, pool.submit(read_unit, corpus, unit, context)))
                if len(waiting) > 2 * nj:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(cancel_futures=True)


def _also(corpus: Corpus) -> str:
    """Say what an alias is, for the end of a message."""
    other = f"{corpus.variable} is another corpus of the kind of {corpus.kind}"
    return f"\n({other})" if corpus.kind else ""


def _units(corpus: Corpus, root: str, options: Mapping[str, str]) -> list[Unit]:
    try:
        units = list(corpus.find(root, options))
    except ArchiveError as error:
        raise ValueError(f"{corpus.variable}={root}: {error}; get it again") from None
    except (FileNotFoundError, ValueError) as error:
        if not corpus.kind or not str(error).startswith(f"{corpus.kind}="):
            raise
        # a corpus's own file knows the variable of its kind only
        found = str(error).removeprefix(f"{corpus.kind}=")
        raise type(error)(f"{corpus.variable}={found}{_also(corpus)}") from None
    if not units:
        raise ValueError(
            f"{corpus.variable}={root}: {corpus.title}: nothing to prepare. Expected:\n"
            f"{corpus.layout}{_also(corpus)}"
        )
    if twice := [key for key, n in Counter(unit.key for unit in units).items() if n > 1]:
        raise ValueError(f"{corpus.name}: two units are called {twice[0]!r}")
    return units


def _stamp(corpus: Corpus, settings: Settings, states: Iterable[tuple[str, str]]) -> str:
    what = [VERSION, corpus.name, corpus.version, dict(settings.options), settings.compressed]
    what += [asdict(settings.shares)]
    for path in settings.keep_out:
        text = path / "text"
        what.append([str(text), text.stat().st_mtime_ns if text.is_file() else None])
    digest = hashlib.blake2b(json.dumps(what, sort_keys=True).encode(), digest_size=16)
    for key, state in states:
        digest.update(f"{key}\0{state}\0".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def prepare(corpus: Corpus, root: str, output: str | Path, settings: Settings) -> Report:
    """Prepare a corpus.

    Args:
        corpus: The corpus.
        root: Where it is.
        output: ``data``; gets the sets and the report.
        settings: How.

    Returns:
        What was done; also in ``<output>/<corpus>.json``.

    Raises:
        FileNotFoundError: The root holds no such corpus; says what was expected.
        PermissionError: A file of it may not be read.
        ValueError: A licence that was not accepted, a wrong option, an unsafe archive, an empty
            corpus, no usable utterance, or a set's directory that is somebody else's.
    """
    output = Path(output).absolute()
    check_licence(corpus, settings.non_commercial)
    settings = replace(settings, options=read_options(corpus, settings.options))
    units = _units(corpus, root, settings.options)
    states = {unit.key: _state(unit) for unit in units}
    stamp = _stamp(corpus, settings, states.items())
    path = output / f"{corpus.name}.json"
    if path.is_file():
        previous = read_json(path)
        if previous["stamp"] == stamp and _intact(output, previous["report"]["sets"], stamp):
            return Report(**previous["report"] | {"done": True})
    work = output / ".prepare" / corpus.name
    work.mkdir(parents=True, exist_ok=True)
    context = Context(root, settings.options, output / f"{corpus.name}_media", settings.compressed)
    made_by = [VERSION, corpus.version, root, settings.compressed, sorted(settings.options.items())]
    spool = Spool(work / "rows.sqlite", json.dumps(made_by))
    try:
        _read(spool, corpus, units, states, context, settings.nj)
        report = _write(spool, corpus, output, stamp, settings)
    finally:
        spool.close()
    write_json(path, {"stamp": stamp, "report": asdict(report)})
    shutil.rmtree(work)
    with contextlib.suppress(OSError):  # another corpus is at work
        work.parent.rmdir()
    return report


def _intact(output: Path, sets: Iterable[str], stamp: str) -> bool:
    marks = [output / name / MADE_BY for name in sets]
    return all(mark.is_file() and read_json(mark)["stamp"] == stamp for mark in marks)


def _read(
    spool: Spool,
    corpus: Corpus,
    units: list[Unit],
    states: Mapping[str, str],
    context: Context,
    nj: int,
) -> None:
    """Bring the spool to hold exactly these units."""
    done = spool.done()
    spool.forget([key for key, state in done.items() if states.get(key) != state])
    todo = [unit for unit in units if done.get(unit.key) != states[unit.key]]
    total, left = (sum(unit.weight for unit in part) for part in (units, todo))
    rows = 0
    with progress(total, f"read {corpus.name}", "parts", initial=total - left) as bar:
        for unit, result in _results(corpus, todo, context, nj):
            spool.add(unit.key, states[unit.key], result)
            rows += len(result.rows)
            bar.set_postfix_str(f"{rows} utterances", refresh=False)
            bar.update(unit.weight)
    spool.commit()
    spool.order_units(unit.key for unit in units)


def _write(spool: Spool, corpus: Corpus, output: Path, stamp: str, settings: Settings) -> Report:
    """Split, write the sets, and count."""
    warnings = assign_splits(spool, settings.shares)
    hold_out(spool, settings.keep_out)
    about: dict[str, Any] = {
        "corpus": corpus.name,
        "title": corpus.title,
        "licence": corpus.licence.name,
    }
    about |= {"where": corpus.where, "options": dict(settings.options), "stamp": stamp}
    short = settings.shares.shared_words
    facts = write_sets(spool, output, corpus.name, about, short)
    warnings += [
        f"{name}: nothing is left of it"
        for name in planned_sets(spool, corpus.name)
        if name not in facts
    ]
    skipped: Counter[str] = Counter()
    with atomic_write(output / f"{corpus.name}_skipped.tsv", "w") as file:
        for item, reason, detail, items in spool.skipped():
            skipped[reason] += items
            shown = (" ".join(f"{part}".split()) for part in (item, reason, detail))
            file.write("\t".join(shown) + f"\t{items}\n")
    counts = spool.counts()
    kept = sum(fact.items for fact in facts.values())
    assert counts["items"] == kept + sum(skipped.values()), "items are lost"
    if not facts:
        reasons = ", ".join(f"{reason}: {n}" for reason, n in skipped.most_common(5))
        raise ValueError(
            f"{corpus.name}: no usable utterance among {counts['items']} items"
            f"{f' ({reasons})' if reasons else ''}"
        )
    report = Report(corpus.name, corpus.licence.name, counts["items"], kept)
    report.skipped, report.notes = dict(skipped.most_common()), counts["notes"]
    for name, fact in facts.items():
        total = fact.utterances
        warnings += [f"{name}: {table} of {n} of {total} only" for table, n in fact.partly.items()]
    report.sets = {name: _plain(fact) for name, fact in facts.items()}
    report.shared = _check_apart(corpus.name, output, facts, short)
    report.unknown_speakers = spool.one("SELECT COUNT(*) FROM rows WHERE NOT known")
    report.warnings = warnings
    return report


def _plain(facts: SetFacts) -> dict[str, Any]:
    plain = dict(vars(facts))  # asdict cannot copy a Counter
    for name in ("languages", "tags"):
        plain[name] = dict(sorted(plain[name].items()))
    return plain | {"seconds": round(facts.seconds, 3)}


def _check_apart(
    corpus: str, output: Path, sets: Mapping[str, SetFacts], short: int
) -> dict[str, int]:
    """Read what was written, and see that no set to train on shares anything with a held-out one.

    Raises:
        RuntimeError: They do; a defect of this program.
    """
    ranks: dict[int, list[Path]] = {0: [], 1: [], 2: []}
    for name, fact in sets.items():
        ranks[rank_of(fact.split)].append(output / name)
    found = Counter(shared(ranks[0], ranks[1] + ranks[2], short))
    found += Counter(shared(ranks[1], ranks[2], short))
    if found:
        raise RuntimeError(f"{corpus}: sets share {dict(found)}")
    return {"speakers": 0, "sentences": 0}
