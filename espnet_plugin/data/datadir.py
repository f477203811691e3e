"""A Kaldi data directory: its tables, read together and checked against each other."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from espnet_plugin.cli import nearest
from espnet_plugin.data.tables import read_table, some, write_table

CHECKSUMS = "utt2crc32"  # of the samples, in a formatted set: other audio under the same name
CORE = ("wav.scp", "text", "utt2spk", "utt2lang")
MAPS = re.compile(r"utt2[a-z0-9_]+")  # further tables by utterance, carried along
NO_EXTRA = {"utt2spk", "utt2lang", "utt2num_samples"}


@dataclass(frozen=True)
class Segment:
    """A part of a recording.

    Attributes:
        recording: Id in ``wav.scp``.
        start: Seconds.
        end: Seconds; -1 is the end of the recording.
    """

    recording: str
    start: float
    end: float


@dataclass(frozen=True)
class DataDir:
    """The tables of a directory, all keyed by utterance except `wav` where there are segments.

    Attributes:
        path: The directory.
        wav: Audio file (or ``ARK:OFFSET``, or ``COMMAND |``) by utterance, or by recording.
        text: Transcripts as written; may be empty.
        utt2spk: Speakers.
        utt2lang: Languages: ``cs``, ``ms``, ``en``, ...
        segments: None where each recording is an utterance.
        num_samples: Samples at 16 kHz; None before formatting.
        extra: Further tables by utterance by file name (``utt2tags``, ``utt2topic``, ...).
    """

    path: Path
    wav: dict[str, str]
    text: dict[str, str]
    utt2spk: dict[str, str]
    utt2lang: dict[str, str]
    segments: dict[str, Segment] | None = None
    num_samples: dict[str, int] | None = None
    extra: dict[str, dict[str, str]] = field(default_factory=dict)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        language: str | None = None,
        languages: Collection[str] | None = None,
    ) -> "DataDir":
        """Read and check a directory.

        Args:
            path: A directory with ``wav.scp text utt2spk utt2lang`` and maybe ``spk2utt segments
                utt2num_samples`` and other ``utt2*`` tables.
            language: Language of every utterance where there is no ``utt2lang``.
            languages: The languages allowed, of the configuration; None allows all.

        Returns:
            The directory's tables.

        Raises:
            FileNotFoundError: The directory or a table is missing.
            ValueError: A table is malformed, or tables disagree; all faults in one message.
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"{path}: no such data directory")
        faults: list[str] = []
        tables: dict[str, dict[str, str]] = {}
        names = [*CORE, "segments", "spk2utt", "utt2num_samples"]
        names += sorted(
            p.name for p in path.iterdir() if MAPS.fullmatch(p.name) and p.name not in NO_EXTRA
        )
        missing = [name for name in CORE if not (path / name).is_file()]
        if language is not None and "utt2lang" in missing:
            missing.remove("utt2lang")
        if missing:
            hint = "; or give --language CODE" if "utt2lang" in missing else ""
            raise FileNotFoundError(f"{path}: has no {', '.join(missing)}{hint}")
        for name in names:
            if (path / name).exists():
                try:
                    free = name == "text" or name in names[len(CORE) + 3 :]
                    tables[name] = read_table(path / name, allow_empty=free)
                except ValueError as error:
                    faults.append(str(error))
        if faults:
            raise ValueError("\n".join(faults))
        segments = None
        if "segments" in tables:
            segments = _read_segments(path / "segments", tables["segments"], tables["wav.scp"])
        first = "segments" if segments is not None else "wav.scp"
        utterances = tables[first]
        if not utterances:
            raise ValueError(f"{path / first}: holds no utterance")
        if language is not None and "utt2lang" not in tables:
            tables["utt2lang"] = dict.fromkeys(utterances, language)
        for name, table in tables.items():
            if name not in ("wav.scp", "segments", "spk2utt"):
                faults += _compare(path / name, table, first, utterances)
        faults += _check_speakers(path, tables["utt2spk"], tables.get("spk2utt"))
        faults += _check_languages(path / "utt2lang", tables["utt2lang"], languages)
        counts = tables.get("utt2num_samples")
        for utt, value in (counts or {}).items():
            if not re.fullmatch(r"[1-9]\d*", value):
                faults.append(f"{path / 'utt2num_samples'}: '{utt}' has {value!r}, not a count")
        if faults:
            raise ValueError("\n".join(faults))
        return cls(
            path,
            tables["wav.scp"],
            tables["text"],
            tables["utt2spk"],
            tables["utt2lang"],
            segments,
            None if counts is None else {utt: int(value) for utt, value in counts.items()},
            {name: tables[name] for name in names[len(CORE) + 3 :]},
        )

    @property
    def utterances(self) -> list[str]:
        """All utterance ids, sorted."""
        return sorted(self.text)

    @property
    def spk2utt(self) -> dict[str, list[str]]:
        """Utterances by speaker, both sorted."""
        speakers: dict[str, list[str]] = {speaker: [] for speaker in sorted(self.utt2spk.values())}
        for utt in self.utterances:
            speakers[self.utt2spk[utt]].append(utt)
        return speakers

    def subset(self, keep: Collection[str]) -> "DataDir":
        """Return the directory without the utterances that are not in `keep`."""
        kept = set(keep)

        def cut[V](table: Mapping[str, V]) -> dict[str, V]:
            return {utt: value for utt, value in table.items() if utt in kept}

        segments = None if self.segments is None else cut(self.segments)
        recordings = {s.recording for s in segments.values()} if segments is not None else kept
        return replace(
            self,
            wav={key: value for key, value in self.wav.items() if key in recordings},
            text=cut(self.text),
            utt2spk=cut(self.utt2spk),
            utt2lang=cut(self.utt2lang),
            segments=segments,
            num_samples=None if self.num_samples is None else cut(self.num_samples),
            extra={name: cut(table) for name, table in self.extra.items()},
        )

    def write(self, path: str | Path) -> None:
        """Write all tables into a directory, each atomically, ``wav.scp`` last."""
        path = Path(path)
        write_table(path / "text", self.text)
        write_table(path / "utt2spk", self.utt2spk)
        write_table(path / "spk2utt", {spk: " ".join(utts) for spk, utts in self.spk2utt.items()})
        write_table(path / "utt2lang", self.utt2lang)
        for name, table in self.extra.items():
            write_table(path / name, table)
        if self.num_samples is not None:
            write_table(path / "utt2num_samples", self.num_samples)
        if self.segments is not None:
            lines = {u: f"{s.recording} {s.start} {s.end}" for u, s in self.segments.items()}
            write_table(path / "segments", lines)
        write_table(path / "wav.scp", self.wav)


def _read_segments(path: Path, table: dict[str, str], wav: dict[str, str]) -> dict[str, Segment]:
    segments: dict[str, Segment] = {}
    faults: list[str] = []
    for utt, value in table.items():
        fields = value.split()
        try:
            recording, start, end = fields[0], float(fields[1]), float(fields[2])
            good = len(fields) == 3 and start >= 0 and (end > start or end == -1) and end < 1e9
        except (ValueError, IndexError):
            good = False
        if not good:
            faults.append(f"{path}: '{utt}' has '{value}', not 'RECORDING START END' in seconds")
        elif recording not in wav:
            faults.append(f"{path}: '{utt}': recording '{recording}' is not in wav.scp")
        else:
            segments[utt] = Segment(recording, start, end)
    if faults:
        more = f"\n{path}: {len(faults)} such segments" if len(faults) > 5 else ""
        raise ValueError("\n".join(faults[:5]) + more)
    return segments


def _compare(path: Path, table: Collection[str], first: str, known: Collection[str]) -> list[str]:
    faults = []
    if missing := sorted(set(known) - set(table)):
        faults.append(f"{path}: {len(missing)} utterances of {first} are missing: {some(missing)}")
    if surplus := sorted(set(table) - set(known)):
        faults.append(f"{path}: {len(surplus)} utterances are not in {first}: {some(surplus)}")
    return faults


def _check_speakers(
    path: Path, utt2spk: dict[str, str], spk2utt: dict[str, str] | None
) -> list[str]:
    faults = []
    if wrong := [utt for utt, speaker in utt2spk.items() if not utt.startswith(speaker)]:
        faults.append(
            f"{path / 'utt2spk'}: the speaker must be the start of the utterance id, else sorting "
            f"by either differs; {len(wrong)} are not: "
            + some(f"{utt} (speaker {utt2spk[utt]})" for utt in wrong)
        )
    if spk2utt is not None:
        listed = [(utt, speaker) for speaker, utts in spk2utt.items() for utt in utts.split()]
        if different := sorted({utt for utt, _ in set(listed) ^ set(utt2spk.items())}):
            faults.append(f"{path / 'spk2utt'}: differs from utt2spk for {some(different)}")
        elif len(listed) != len(utt2spk):
            faults.append(f"{path / 'spk2utt'}: lists an utterance twice")
    return faults


def _check_languages(
    path: Path, utt2lang: dict[str, str], languages: Collection[str] | None
) -> list[str]:
    faults = []
    for language in sorted(set(utt2lang.values())):
        example = next(utt for utt, found in utt2lang.items() if found == language)
        if not re.fullmatch(r"[A-Za-z0-9_-]+", language):
            faults.append(f"{path}: '{example}' has '{language}', not one language code")
        elif languages is not None and language not in languages:
            faults.append(
                f"{path}: '{example}' has the language '{language}'{nearest(language, languages)}; "
                f"configured are {' '.join(sorted(languages))} (lang_tokens)"
            )
    return faults
