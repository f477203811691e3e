"""Recipe stage 7: how much data there is, and the shape files that ESPnet's batching reads."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write, write_json
from espnet_plugin.data.audio import RATE
from espnet_plugin.data.datadir import DataDir
from espnet_plugin.data.formatting import formatted_set
from espnet_plugin.data.tables import write_table
from espnet_plugin.data.tokens import TokenCounter


@dataclass
class SetStatistics:
    """Figures of one set.

    Attributes:
        name: The set.
        utterances: How many.
        speakers: How many.
        hours: Of audio.
        longest: Seconds of the longest utterance.
        words: Of the text as written, split at white space.
        tokens: Of the text, without prompts; None where no model was given.
        languages: Utterances by language.
    """

    name: str
    utterances: int
    speakers: int
    hours: float
    longest: float
    words: int
    tokens: int | None
    languages: dict[str, int]


def write_statistics(
    dumpdir: str | Path, name: str, output: str | Path, counter: TokenCounter | None
) -> SetStatistics:
    """Count a set and write its shape files.

    These are ``<output>/<name>/speech_shape`` (``UTT SAMPLES``) and, with a counter,
    ``text_shape`` (``UTT TOKENS,VOCABULARY``; text tokens only), as ESPnet writes them.

    Args:
        dumpdir: ``dump/raw``.
        name: The set.
        output: ``exp/stats``.
        counter: Counts tokens; None leaves them out.

    Returns:
        The figures.

    Raises:
        FileNotFoundError: The set has not been formatted.
        ValueError: Its tables are malformed or disagree.
    """
    data = DataDir.load(formatted_set(dumpdir, name))
    samples = data.num_samples
    assert samples is not None  # the file exists, so it was read
    write_table(Path(output) / name / "speech_shape", samples)
    tokens = None
    text_shape = Path(output) / name / "text_shape"
    if counter is None:
        text_shape.unlink(missing_ok=True)  # it would be of an older set
    else:
        counts = counter.count([data.text[utt] for utt in data.utterances])
        tokens = sum(counts)
        shapes = zip(data.utterances, counts, strict=True)
        write_table(text_shape, {utt: f"{n},{counter.vocab_size}" for utt, n in shapes})
    return SetStatistics(
        name=name,
        utterances=len(samples),
        speakers=len(data.spk2utt),
        hours=sum(samples.values()) / RATE / 3600,
        longest=max(samples.values()) / RATE,
        words=sum(len(text.split()) for text in data.text.values()),
        tokens=tokens,
        languages=dict(sorted(Counter(data.utt2lang.values()).items())),
    )


def table(sets: Sequence[SetStatistics]) -> str:
    """Return the figures as a Markdown table, one row a set."""
    head = "| set | utterances | speakers | hours | longest (s) | words | tokens | languages |"
    rows = [
        f"| {s.name} | {s.utterances} | {s.speakers} | {s.hours:.2f} | {s.longest:.1f} | {s.words} "
        f"| {'-' if s.tokens is None else s.tokens} "
        f"| {', '.join(f'{language} {n}' for language, n in s.languages.items())} |"
        for s in sets
    ]
    return "\n".join([head, "| --- |" + " ---: |" * 6 + " --- |", *rows]) + "\n"


def statistics(
    dumpdir: str | Path, names: Sequence[str], output: str | Path, model: str | None = None
) -> str:
    """Count sets; write their shape files, ``README.md`` (the table) and ``stats.json``.

    Args:
        dumpdir: ``dump/raw``.
        names: The sets.
        output: ``exp/stats``.
        model: Model directory for counting tokens; None leaves them out.

    Returns:
        The Markdown table.

    Raises:
        FileNotFoundError: A set has not been formatted, or the model is missing.
        ValueError: Tables are malformed or disagree.
    """
    counter = None if model is None else TokenCounter(model)
    sets = [write_statistics(dumpdir, name, output, counter) for name in names]
    text = table(sets)
    with atomic_write(Path(output) / "README.md", "w") as file:
        file.write("# Statistics of the speech data\n\n" + text)
    write_json(Path(output) / "stats.json", [asdict(figures) for figures in sets])
    return text
