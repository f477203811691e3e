"""Recipe stage 4: drop from training and validation sets what cannot be trained on.

Test sets are never filtered. The unfiltered tables stay in ``dump/raw/org/<set>`` (as in ESPnet's
recipes), and a rerun with other limits starts from them.
"""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json, sha256_file, write_json
from espnet_plugin.data.audio import RATE
from espnet_plugin.data.datadir import DataDir
from espnet_plugin.data.faults import DROPPED, LEFT_OUT, TEST_SET, Finding, write_findings
from espnet_plugin.data.formatting import FILTER_STAMP, formatted_set
from espnet_plugin.data.tables import some
from espnet_plugin.data.tokens import TokenCounter


@dataclass(frozen=True)
class Limits:
    """What an utterance must be to be trained on.

    Attributes:
        min_seconds: Shorter ones are dropped.
        max_seconds: Longer ones are dropped; 30 s is Whisper's window.
        prompt_tokens: Places of the decoder that are not text: start, language, task, two
            timestamps (or no-timestamps), end.
        model: Model directory for counting tokens; None does not count them.
        strict: Raise an error instead of dropping.
    """

    min_seconds: float = 0.1
    max_seconds: float = 30.0
    prompt_tokens: int = 6
    model: str | None = None
    strict: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.min_seconds < self.max_seconds <= 30:
            raise ValueError(
                f"min_seconds {self.min_seconds} and max_seconds {self.max_seconds}: needed is "
                "0 <= min_seconds < max_seconds <= 30 (Whisper hears 30 s)"
            )
        if self.prompt_tokens < 5:
            raise ValueError(f"prompt_tokens {self.prompt_tokens}: prompt and end are 5 at least")


@dataclass
class Filtered:
    """What filtering a set did: `total` = `kept` + the dropped ones, each counted once."""

    path: str
    total: int
    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    done: bool = False

    def __str__(self) -> str:
        reasons = "".join(f"; {reason}: {n}" for reason, n in self.dropped.items())
        text = f"{self.path}: {self.kept} of {self.total} utterances kept{reasons}"
        return text + ("; done already" if self.done else "")


def _audio_hash(path: str) -> str:
    import soundfile

    samples, _ = soundfile.read(path, dtype="int16")
    return hashlib.sha256(samples.tobytes()).hexdigest()


def _duplicates(data: DataDir, samples: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield utterances whose text and audio equal those of an earlier one, and that one.

    Audio is only read where text and length agree.
    """
    alike: dict[tuple[str, int], list[str]] = {}
    for utt in data.utterances:
        alike.setdefault((data.text[utt], samples[utt]), []).append(utt)
    for group in alike.values():
        first: dict[str, str] = {}
        for utt in group if len(group) > 1 else []:
            original = first.setdefault(_audio_hash(data.wav[utt]), utt)
            if original != utt:
                yield utt, original


def find_unusable(data: DataDir, limits: Limits) -> dict[str, tuple[str, str]]:
    """Find the utterances to drop.

    Args:
        data: A formatted set.
        limits: What is usable.

    Returns:
        Reason (one of ``empty text``, ``too short``, ``too long``, ``too many tokens``,
        ``duplicate``; the first that applies) and detail by utterance.

    Raises:
        FileNotFoundError: The set has no ``utt2num_samples``, or there is no such model.
    """
    if data.num_samples is None:
        raise FileNotFoundError(f"{data.path}: has no utt2num_samples; format (stage 3) makes it")
    found: dict[str, tuple[str, str]] = {}
    tokens: dict[str, int] = {}
    room = 0
    if limits.model is not None:
        counter = TokenCounter(limits.model)
        room = counter.max_positions - limits.prompt_tokens
        counts = counter.count([data.text[utt] for utt in data.utterances])
        tokens = dict(zip(data.utterances, counts, strict=True))
    for utt in data.utterances:
        seconds = data.num_samples[utt] / RATE
        if not data.text[utt]:
            found[utt] = "empty text", ""
        elif seconds < limits.min_seconds:
            found[utt] = "too short", f"{seconds:.3f} s, at least {limits.min_seconds} s is needed"
        elif seconds > limits.max_seconds:
            found[utt] = "too long", f"{seconds:.2f} s, at most {limits.max_seconds} s is allowed"
        elif tokens and tokens[utt] > room:
            found[utt] = (
                "too many tokens",
                f"{tokens[utt]} tokens, at most {room} are allowed: the decoder has "
                f"{room + limits.prompt_tokens} places, {limits.prompt_tokens} for prompt and end",
            )
    usable = data.subset(set(data.utterances) - set(found))
    for utt, original in _duplicates(usable, data.num_samples):
        found[utt] = "duplicate", f"text and audio of {original}"
    return found


def _stamp(data: DataDir, limits: Limits) -> str:
    tokenizer = None if limits.model is None else Path(limits.model) / "tokenizer.json"
    state: list[Any] = [
        data.wav,
        data.text,
        data.utt2spk,
        data.utt2lang,
        data.num_samples,
        data.extra,
    ]
    state += [asdict(limits), sha256_file(tokenizer) if tokenizer and tokenizer.is_file() else None]
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def filter_set(dumpdir: str | Path, name: str, limits: Limits | None = None) -> Filtered:
    """Filter ``<dumpdir>/<name>`` in place.

    The list of what was dropped, with reasons, is ``dropped.tsv`` there (see `faults`).

    Args:
        dumpdir: ``dump/raw``.
        name: The set; a test set is refused.
        limits: What is usable.

    Returns:
        Counts.

    Raises:
        FileNotFoundError: The set has not been formatted, or the model is missing.
        ValueError: A test set, nothing left, or (strict) anything to drop.
    """
    limits = limits or Limits()
    if TEST_SET.search(name):
        raise ValueError(f"{name}: test sets are never filtered: the score would be of another set")
    path, original = formatted_set(dumpdir, name), Path(dumpdir) / "org" / name
    if not (path / FILTER_STAMP).is_file():  # as format made it
        data = DataDir.load(path)
        if original.exists():
            shutil.rmtree(original)  # of an earlier formatting
        data.write(original)
        # Written before the set is touched: from here on the originals are the source.
        write_json(path / FILTER_STAMP, {"stamp": None})
    data = DataDir.load(original)
    stamp = _stamp(data, limits)
    previous = read_json(path / FILTER_STAMP)
    if previous["stamp"] == stamp:
        return Filtered(**previous["result"] | {"path": str(path), "done": True})
    found = find_unusable(data, limits)
    lines = [f"{utt} {reason}: {detail}".rstrip(": ") for utt, (reason, detail) in found.items()]
    lines.sort()
    if found and limits.strict:
        raise ValueError(
            f"{path}: {len(found)} of {len(data.text)} utterances cannot be trained on "
            f"(without --strict they are dropped): {some(lines)}"
        )
    keep = set(data.utterances) - set(found)
    if not keep:
        raise ValueError(f"{path}: no utterance is left of {len(data.text)}: {some(lines)}")
    write_json(path / FILTER_STAMP, {"stamp": None})
    data.subset(keep).write(path)
    dropped = [Finding(u, why, LEFT_OUT, data.wav[u], what) for u, (why, what) in found.items()]
    write_findings(path / DROPPED, dropped)
    counts = Counter(reason for reason, _ in found.values())
    result = Filtered(str(path), len(data.text), len(keep), dict(sorted(counts.items())))
    write_json(path / FILTER_STAMP, {"stamp": stamp, "result": asdict(result)})
    return result
