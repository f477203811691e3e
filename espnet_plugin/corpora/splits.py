"""Which utterance goes into which set: official splits, else by speaker; nothing shared.

A set's role is in its split's name: ``test...`` before ``valid...`` or ``dev...`` before all
others, which are trained on. Where a speaker or a sentence is in two roles, the higher one keeps
it and the lower one loses it.

Without official splits, speakers that share a `group` (a conversation) stay together. Groups are
taken in an order that a hash of their names gives, into test and valid until those are full: the
same corpus is always split alike. Where no speaker is known, the sentence's hash decides.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.corpora.spool import Spool, sentence_key

ROLES = ("train", "valid", "test")  # by rank
_RANK = """CASE WHEN {0} LIKE 'test%' THEN 2
    WHEN {0} LIKE 'valid%' OR {0} LIKE 'dev%' THEN 1 ELSE 0 END"""
_SECONDS = 'COALESCE("end" - start, recdur)'
FULL = 1.2  # a set may be this much larger than asked for, so that one large group fits


@dataclass(frozen=True)
class Shares:
    """How much of a corpus without official splits is held out.

    Attributes:
        valid: Share of the seconds, 0..0.5.
        test: The same.
        max_hours: No held-out set gets more than this.
        seed: Another one gives another split.
        shared_words: Sentences of up to so many words (``okay``) may be in several sets. In
            conversations they are many; 0 keeps every sentence of a test set out of training.
    """

    valid: float = 0.02
    test: float = 0.02
    max_hours: float = 10.0
    seed: int = 0
    shared_words: int = 0

    def __post_init__(self) -> None:
        for name in ("valid", "test"):
            if not 0 <= (share := getattr(self, name)) <= 0.5:
                raise ValueError(f"{name}_share is {share}; it lies within 0 and 0.5")
        if self.shared_words < 0:
            raise ValueError(f"shared_words is {self.shared_words}; it is 0 or more")
        if self.max_hours <= 0:
            raise ValueError(f"max_hours is {self.max_hours}; it is above 0")


def rank_of(split: str) -> int:
    """Return 2 for a test split, 1 for one to validate on, 0 for one to train on."""
    return 2 if split.startswith("test") else 1 if split.startswith(("valid", "dev")) else 0


class _Groups:
    """Union-find over names."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        parent = self._parent.setdefault(name, name)
        while parent != self._parent[parent]:
            self._parent[parent] = parent = self._parent[self._parent[parent]]
        self._parent[name] = parent
        return parent

    def union(self, a: str, b: str) -> None:
        low, high = sorted((self.find(a), self.find(b)))
        self._parent[high] = low


def assign_splits(spool: Spool, shares: Shares) -> list[str]:
    """Decide every row's split; makes the view ``placed`` (rows with ``final`` and ``rank``).

    Memory grows with the number of known speakers, not with that of utterances.

    Args:
        spool: All rows of the corpus.
        shares: How much to hold out.

    Returns:
        Warnings.
    """
    groups = _Groups()
    pinned: dict[str, int] = {}  # highest official rank by speaker
    seconds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    query = (
        f"SELECT spk, grp, subset, split, SUM({_SECONDS}) FROM rows WHERE known GROUP BY 1,2,3,4"
    )
    for speaker, group, subset, split, length in spool.db.execute(query):
        groups.find(speaker)
        if split is not None:
            pinned[speaker] = max(pinned.get(speaker, 0), rank_of(split))
            continue
        if group is not None:
            groups.union(speaker, f"\0{group}")  # no speaker begins so
        seconds[subset][speaker] += length
    places = {groups.find(s): rank for s, rank in sorted(pinned.items(), key=lambda item: item[1])}
    warnings: list[str] = []
    for subset in sorted(seconds):
        components: dict[str, float] = defaultdict(float)
        for speaker, length in seconds[subset].items():
            components[groups.find(speaker)] += length
        warnings += _fill(subset, components, places, shares)
    spool.db.execute("DROP TABLE IF EXISTS speakers")
    spool.db.execute("CREATE TABLE speakers (spk TEXT PRIMARY KEY, split TEXT, rank INT)")
    split_here = {speaker for table in seconds.values() for speaker in table}
    for name in sorted(split_here | set(pinned)):
        rank = places[groups.find(name)]
        # official rows of a speaker yield only to a higher split in which he really is
        highest = max(pinned.get(name, 0), rank if name in split_here else 0)
        spool.db.execute("INSERT INTO speakers VALUES (?, ?, ?)", (name, ROLES[rank], highest))
    _make_view(spool, shares)
    return warnings


def _fill(
    subset: str, components: dict[str, float], places: dict[str, int], shares: Shares
) -> list[str]:
    """Place the components of a subset that have no place yet."""
    total = sum(components.values())

    def order(name: str) -> bytes:
        return hashlib.blake2b(f"{shares.seed}\0{name}".encode(), digest_size=16).digest()

    free = sorted((name for name in components if name not in places), key=order)
    filled = [0.0, 0.0, 0.0]
    for name, length in components.items():
        filled[places.get(name, 0)] += length
    target = [0.0, *(min(s * total, shares.max_hours * 3600) for s in (shares.valid, shares.test))]
    for rank in (2, 1):
        chosen = []
        for name in free:
            if filled[rank] >= target[rank]:
                break
            if filled[rank] + components[name] <= FULL * target[rank]:
                chosen.append(name)
                filled[rank] += components[name]
        if target[rank] and not filled[rank] and len(free) > rank:  # all are larger than the share
            chosen = [min(free, key=lambda name: (components[name], order(name)))]
        for name in chosen:
            places[name] = rank
        free = [name for name in free if name not in places]
    places.update(dict.fromkeys(free, 0))
    used = {places[name] for name in components}
    return [
        f"{subset or 'the corpus'}: too few speakers for a {ROLES[rank]} set"
        for rank in (2, 1)
        if target[rank] and rank not in used
    ]


def _make_view(spool: Spool, shares: Shares) -> None:
    unknown = spool.one(
        f"SELECT COALESCE(SUM({_SECONDS}), 0) FROM rows WHERE NOT known AND split IS NULL"
    )
    cap = shares.max_hours * 3600 / unknown if unknown else 1.0
    test = round(min(shares.test, cap) * 65536)
    valid = test + round(min(shares.valid, cap) * 65536)
    by_sentence = f"""CASE WHEN (r.sentence & 65535) < {test} THEN 'test'
        WHEN (r.sentence & 65535) < {valid} THEN 'valid' ELSE 'train' END"""
    spool.db.execute("DROP VIEW IF EXISTS placed")
    spool.db.execute(
        f"""CREATE VIEW placed AS SELECT *, {_RANK.format("final")} AS rank FROM (
            SELECT r.*, COALESCE(r.split, s.split, {by_sentence}) AS final,
                COALESCE(s.rank, 0) AS speaker_rank
            FROM rows r LEFT JOIN speakers s ON s.spk = r.spk AND r.known)"""
    )


def hold_out(spool: Spool, keep_out: Iterable[Path]) -> None:
    """Make the table ``held``: sentences that lower roles must not have, with the highest role.

    Args:
        spool: The rows, placed.
        keep_out: Data directories of test sets of other corpora.

    Raises:
        FileNotFoundError: Such a directory has no ``text``.
    """
    spool.db.execute("DROP TABLE IF EXISTS held")
    spool.db.execute("CREATE TABLE held (sentence INTEGER PRIMARY KEY, rank INT)")
    spool.db.execute(
        "INSERT INTO held SELECT sentence, MAX(rank) FROM placed WHERE rank > 0 GROUP BY sentence"
    )
    for directory in keep_out:
        spool.db.executemany(
            "INSERT OR REPLACE INTO held VALUES (?, 2)",
            ((sentence_key(text),) for _, text in _lines(directory / "text")),
        )
    spool.db.commit()


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; a data directory is needed")
    with open(path, encoding="utf-8", newline="\n") as file:
        for line in file:
            key, _, value = line.rstrip("\n").partition(" ")
            yield key, value


def shared(lower: Sequence[Path], higher: Sequence[Path], short: int = 0) -> dict[str, int]:
    """Count what data directories have in common, from what is written there.

    Args:
        lower: Directories to train on.
        higher: Directories to test on; their speakers and sentences are held in memory (as hashes).
        short: Sentences of up to so many words do not count.

    Returns:
        ``speakers`` and ``sentences`` of `higher` that occur in `lower`.
    """
    sentences = {
        sentence_key(text)
        for path in higher
        for _, text in _lines(path / "text")
        if len(text.split()) > short
    }
    speakers = {speaker for path in higher for _, speaker in _lines(path / "utt2spk")}
    found: set[int] = set()
    heard: set[str] = set()
    for path in lower:
        for _, text in _lines(path / "text"):
            if (key := sentence_key(text)) in sentences:
                found.add(key)
        heard.update(s for _, s in _lines(path / "utt2spk") if s in speakers)
    return {"speakers": len(heard), "sentences": len(found)}
