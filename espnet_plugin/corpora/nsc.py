"""IMDA National Speech Corpus, parts 1 to 6: Singaporean English, and Malay-English in part 4.

Sets: ``nsc_part1`` ... ``nsc_part6``, and ``nsc_cs`` for the Malay-English conversations of part 4
(``sur_..._cs-mly``), each with ``_train``, ``_valid`` and ``_test``.

Transcripts of conversations are TextGrids; an interval is an utterance. What is said in Malay,
Mandarin or Tamil is tagged there: the words are kept, and the tags go to ``utt2tags``. Pauses
(``<S>``), invalid stretches (``<Z>``) and intervals that are not in the audio are left out and
counted. Hesitations in brackets are left out of the text, as scoring leaves them out.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from espnet_plugin.corpora.archives import ArchiveError, Audio, on_disk
from espnet_plugin.corpora.corpus import (
    AudioError,
    Context,
    Corpus,
    Licence,
    Option,
    Row,
    Skip,
    Unit,
    existing_folder,
    wrong_root,
)
from espnet_plugin.corpora.marked import Marked, join_marked, read_marked
from espnet_plugin.corpora.nsc_layout import Prompted, Spoken, find_parts, prompted, spoken
from espnet_plugin.corpora.textgrid import (
    Interval,
    TextGridError,
    decode,
    read_textgrid,
    speech_tier,
)

GAP = 1.0  # seconds between two intervals that may still be joined
SLACK = 0.02  # seconds that neighbours may overlap without a word
_PAUSE = re.compile(r"\s*(?:<\s*s\s*/?>\s*)+", re.IGNORECASE)
_INVALID = re.compile(r"\s*(?:<\s*z\s*/?>\s*)+", re.IGNORECASE)
_UNCLEAR = re.compile(r"\*\*|~|<(?:unk|ukn|ink)/?>", re.IGNORECASE)
_ID = re.compile(r"\d{9}")


def find(root: str, options: Mapping[str, str]) -> Iterator[Unit]:
    """List speakers of parts 1 and 2, and recordings of parts 3 to 6."""
    folder = existing_folder(root, CORPUS)
    chosen = {name: set(options[name].replace(",", " ").split()) for name in CORPUS.options}
    parts = [(part, path) for part, path in find_parts(folder) if str(part) in chosen["parts"]]
    if not parts:
        raise wrong_root(root, CORPUS)
    _join_seconds(options)
    for part, path in parts:
        if part < 3:
            for speaker in prompted(part, path, chosen["channels"]):
                files = [*speaker.scripts, *([speaker.audio] if speaker.audio else [])]
                key = f"{path}:channel{speaker.channel}/speaker{speaker.speaker}"
                yield Unit(key, _files(files), speaker)
            continue
        for one in spoken(part, path, chosen["mics"]):
            if part == 4 and one.style.removeprefix("cs-") not in chosen["mixed"]:
                continue
            both = [place for place in (one.script, one.audio) if place]
            files = [f"{place}/{name}" for place, name in both]
            key = f"{path}:{one.microphone}/{one.style}/{one.stem}"
            yield Unit(key + ("" if one.script else ".wav"), _files(files), one)


def _files(paths: Iterable[str]) -> tuple[str, ...]:
    """Return the files on the disk that paths lead to, each once."""
    return tuple(dict.fromkeys(map(on_disk, paths)))


def _join_seconds(options: Mapping[str, str]) -> float:
    try:
        seconds = float(options["join"])
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 30:
        raise ValueError(f"nsc.join is '{options['join']}', not seconds within 0 and 30")
    return seconds


def read(unit: Unit, context: Context) -> Iterator[Row | Skip]:
    """Read a speaker or a recording."""
    if isinstance(unit.data, Prompted):
        yield from _read_prompted(unit.data, context)
    else:
        yield from _read_spoken(unit.data, context)


def _unclear(raw: str) -> tuple[str, ...]:
    return ("unknown or cut words left out",) if _UNCLEAR.search(raw) else ()


def _read_prompted(who: Prompted, context: Context) -> Iterator[Row | Skip]:
    """Read the scripts of a speaker: two lines an utterance, as prompted and as spoken."""
    reason, detail = "missing audio", who.audio or ""
    places: dict[str, str] = {}
    files = None
    if who.audio is not None:
        try:
            files = context.open(who.audio)
            for name in files.names():
                stem, _, ending = name.rpartition("/")[2].rpartition(".")
                if ending.lower() == "wav":
                    places[stem] = name
        except ArchiveError as error:
            reason, detail = "damaged archive", str(error)
    used: set[str] = set()
    for script in who.scripts:
        folder, _, file = script.rpartition("/")
        try:
            content = context.open(folder).read(file)
        except ArchiveError as error:
            yield Skip(script, "unreadable transcript", str(error))
            continue
        for name, prompt, words in _script_lines(content):
            if not _ID.fullmatch(name):
                yield Skip(f"{script}: {name}", "malformed line of a script", prompt[:80])
                continue
            raw = words if words is not None and context.options["text"] == "spoken" else prompt
            used.add(name)
            if files is None or name not in places:
                yield Skip(name, reason, detail)
                continue
            try:
                audio = files.audio(places[name])
            except AudioError as error:
                yield Skip(name, "unusable audio", str(error))
                continue
            marked = read_marked(raw)
            yield Row(
                name,
                f"p{who.part}_{who.speaker}",
                marked.text,
                marked.lang,
                audio.source,
                audio.seconds,
                tags=marked.tags,
                times=[(0.0, audio.seconds, len(marked.text.split()))],
                subset=f"part{who.part}",
                notes=_unclear(raw),
            )
    for name in sorted(places.keys() - used):
        yield Skip(name, "audio without transcript", places[name])


def _script_lines(data: bytes) -> Iterator[tuple[str, str, str | None]]:
    """Yield id, first line and second line (None where it is missing) of each utterance."""
    current: tuple[str, str, str | None] | None = None
    for line in decode(data).splitlines():
        name, tab, text = line.partition("\t")
        name, text = name.strip().lstrip("\ufeff"), text.strip()
        if name:
            if current:
                yield current
            current = name, text, None
        elif current and current[2] is None:
            current = current[0], current[1], text
        elif text:
            yield "(no id)", text, None
    if current:
        yield current


def _read_spoken(one: Spoken, context: Context) -> Iterator[Row | Skip]:
    """Read the intervals of a recording."""
    if one.script is None:
        yield Skip(one.stem, "audio without transcript", "/".join(one.audio or ()))
        return
    try:
        tier = speech_tier(read_textgrid(context.open(one.script[0]).read(one.script[1])))
    except (TextGridError, ArchiveError) as error:
        yield Skip(one.stem, "unreadable transcript", str(error))
        return
    if tier.lost:
        yield Skip(one.stem, "lost in a cut transcript", f"after {len(tier.intervals)}", tier.lost)
    quiet: Counter[str] = Counter()
    intervals: list[Interval | None] = []  # None: what must not be joined over
    for interval in tier.intervals:
        if _PAUSE.fullmatch(interval.text):
            quiet["pause"] += 1
        elif _INVALID.fullmatch(interval.text):
            quiet["marked as invalid"] += 1
            intervals.append(None)
        elif not interval.text:
            quiet["empty interval"] += 1
        else:
            intervals.append(interval)
    for reason, n in sorted(quiet.items()):
        yield Skip(one.stem, reason, "", n)
    try:
        if one.audio is None:
            raise AudioError("no such file")
        audio = context.open(one.audio[0]).audio(one.audio[1])
    except (AudioError, ArchiveError) as error:
        reason = "missing audio" if str(error) == "no such file" else "unusable audio"
        yield Skip(one.stem, reason, str(error), sum(i is not None for i in intervals))
        return
    yield from _rows(one, audio, intervals, _join_seconds(context.options))


def _rows(
    one: Spoken, audio: Audio, intervals: list[Interval | None], join: float
) -> Iterator[Row | Skip]:
    """Turn intervals into utterances, one each or joined up to `join` seconds."""
    waiting: list[tuple[Interval, Marked]] = []
    last: Interval | None = None
    for interval in intervals:
        skip = None
        if interval is not None:
            marked = read_marked(interval.text)
            skip = _unusable(one, interval, last, marked, audio.seconds)
        if skip is not None:
            yield skip
        if interval is None or skip is not None:
            fits = False
        else:
            fits = bool(
                waiting
                and interval.end - waiting[0][0].start <= join
                and interval.start - waiting[-1][0].end <= GAP
            )
        if waiting and not fits:
            yield _row(one, audio, waiting)
            waiting = []
        if interval is not None and skip is None:
            waiting.append((interval, marked))
            last = interval
    if waiting:
        yield _row(one, audio, waiting)


def _unusable(
    one: Spoken, interval: Interval, last: Interval | None, marked: Marked, seconds: float
) -> Skip | None:
    """Say why an interval is no utterance of its own."""

    def skip(reason: str, text: str = interval.text) -> Skip:
        return Skip(f"{one.stem} {interval.start}-{interval.end}", reason, text[:80])

    length = interval.end - interval.start
    if length <= 0:
        return skip("no duration")
    if last is not None and interval.start < last.end - SLACK:
        if interval == last:
            return skip("interval given twice")
        both = min(last.end, interval.end) - interval.start
        if both > min(length, last.end - last.start) / 2:
            return skip("overlaps the interval before")
    other = marked.lang in ("zh", "ta") and one.style not in ("cs-chn", "cs-tml")
    if marked.text and other:
        return skip("neither Malay nor English", marked.text)
    if not marked.tags:
        return skip("no words")
    return None


def _row(one: Spoken, audio: Audio, parts: list[tuple[Interval, Marked]]) -> Row:
    start, end = parts[0][0].start, parts[-1][0].end
    marked = parts[0][1] if len(parts) == 1 else join_marked(part for _, part in parts)
    microphone = f"-{one.microphone}" if one.microphone else ""
    stem = one.stem if one.microphone != "boundary" else one.session
    subset = f"part{one.part}"
    if one.style.startswith("cs-"):
        subset = "cs" if one.style == "cs-mly" else one.style.replace("-", "_")
    notes = [note for interval, _ in parts for note in _unclear(interval.text)]
    return Row(
        f"{one.stem}{microphone}-{round(start * 1000):08d}-{round(end * 1000):08d}",
        f"p{one.part}_{one.speaker}",
        marked.text,
        marked.lang,
        audio.source,
        audio.seconds,
        recording=f"p{one.part}_{stem}{microphone}",
        start=start,
        end=end,
        tags=marked.tags,
        times=[(i.start - start, i.end - start, len(m.text.split())) for i, m in parts],
        subset=subset,
        group=f"p{one.part}_{one.session}",
        notes=notes,
        items=len(parts),
    )


CORPUS = Corpus(
    "nsc",
    "NSC",
    "IMDA National Speech Corpus, Singaporean English and Malay-English",
    Licence(
        "Singapore Open Data Licence 1.0", commercial=True, note="on request from IMDA, by e-mail"
    ),
    where="https://www.imda.gov.sg/how-we-can-help/national-speech-corpus",
    layout="""  IMDA - National Speech Corpus/PART1/DATA/CHANNEL0/SCRIPT/000010.TXT
                                                   WAVE/SPEAKER0001.zip (or unpacked)
  .../PART3/{Scripts Same, Audio Same CloseMic, ...}
  .../PART4/Codeswitching/{Same Room Scripts, Same Room Audio, Diff Room ...}
  .../PART5/{Debate Scripts, Debate Audio, ...}, .../PART6/Call Centre Design 1/{Scripts, Audio}
  (any of the parts, at any depth up to four folders; underscores for spaces and zips are fine, also
  PART1.zip for a whole part, with zips in it)""",
    find=find,
    read=read,
    options={
        "parts": Option("1 2 3 4 5 6", "parts to prepare", tuple("123456")),
        "channels": Option(
            "0", "microphones of parts 1 and 2: 0 standing, 1 boundary, 2 phone", tuple("012")
        ),
        "mics": Option(
            "close standing",
            "microphones of part 3, same room: close boundary; separate rooms: standing ivr",
            ("close", "boundary", "standing", "ivr"),
        ),
        "mixed": Option("mly", "languages of part 4 mixed with English", ("mly", "chn", "tml")),
        "text": Option(
            "spoken",
            "line of parts 1 and 2: as spoken (lower case) or the prompt",
            ("spoken", "prompt"),
        ),
        "join": Option("0", "seconds up to which neighbouring intervals become one utterance"),
    },
)
