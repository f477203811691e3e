"""The demo corpus: hand-written Malay, English and mixed sentences, spoken by espeak-ng.

Speech is scarce and text is rich, as in the paper's setting. The paired utterances cover the
``seen`` topics only; the text-only lines and the test sets cover the ``unseen`` ones too; the
acoustic sets (monolingual, other topics again) are what ``init`` is adapted on.
"""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from espnet_plugin.checkpoint import atomic_write
from espnet_plugin.corpora import an4, demo_checks, espeak, phrase_mix
from espnet_plugin.corpora.data_dir import Utterance, write_data_dir
from espnet_plugin.corpora.demo_speech import Job, plan, synthesize_all
from espnet_plugin.corpora.markup import Sentence, read_sentences
from espnet_plugin.corpora.mix_file import mix_file
from espnet_plugin.corpora.text_lines import Line, tags_of, write_lines
from espnet_plugin.text import NORMALIZER_VERSION

SOURCE = Path(__file__).parents[2] / "local" / "demo"  # in a checkout
STAMP = ".prepare_demo.json"


@dataclass(frozen=True)
class SpeechSet:
    """What a set is made of: files, languages, whose voices, share with noise or a room."""

    files: tuple[str, ...]
    langs: tuple[str, ...]
    split: str
    code: str  # in utterance ids
    spoiled: float


_TEST = ("seen/test.tsv", "unseen/test.tsv")
SETS = {
    "train_acoustic": SpeechSet(("unseen/acoustic.tsv",), ("ms", "en"), "train", "ac", 1 / 3),
    "valid_acoustic": SpeechSet(("unseen/acoustic_valid.tsv",), ("ms", "en"), "valid", "va", 1 / 4),
    "train_paired": SpeechSet(("seen/paired.tsv",), ("cs", "ms", "en"), "train", "pa", 1 / 3),
    "valid_paired": SpeechSet(
        ("seen/valid_paired.tsv", "unseen/valid_paired.tsv"),
        ("cs", "ms", "en"),
        "valid",
        "vp",
        1 / 4,
    ),
    "test_cs": SpeechSet(_TEST, ("cs",), "test", "cs", 1 / 4),
    "test_ms": SpeechSet(_TEST, ("ms",), "test", "ms", 1 / 4),
    "test_en": SpeechSet(_TEST, ("en",), "test", "en", 1 / 4),
    "test_es": SpeechSet(("unseen/test_es.tsv",), ("es",), "test", "es", 1 / 4),
}
TEXT = ("seen/text.tsv", "unseen/text.tsv")
VALID_TEXT = ("seen/valid_text.tsv", "unseen/valid_text.tsv")
PHRASES = ("seen/phrases.tsv", "unseen/phrases.tsv", "compounds.tsv")


@dataclass(frozen=True)
class DemoOptions:
    """How the corpus is made.

    Attributes:
        seed: Decides who says what, noise, and phrase mixing.
        lines: Distinct text-only training lines.
        acoustic_repeats: How often each acoustic sentence is spoken, by different speakers.
        switch_rate: See ``phrase_mix.MixOptions``.
    """

    seed: int = 0
    lines: int = 24_000
    acoustic_repeats: int = 1
    switch_rate: float = phrase_mix.MixOptions.switch_rate


def prepare(source: Path, datadir: Path, options: DemoOptions, nj: int) -> str:
    """Make the demo corpus, or nothing where it is there already.

    Args:
        source: The hand-written files (``local/demo``).
        datadir: Gets one data directory a set, ``text/*.jsonl`` and ``examples_an4``.
        options: How it is made.
        nj: How many utterances are spoken at a time.

    Returns:
        What was done: a table of the sets, or that nothing has changed.

    Raises:
        FileNotFoundError: espeak-ng, a sentence file or ESPnet's archive is missing.
        ValueError: Malformed sentences, a test sentence in training text, or a failed synthesis.
    """
    espeak.check_espeak()
    stamp = datadir / STAMP
    key = _key(source, options)
    if _unchanged(stamp, key, datadir):
        return f"{datadir}: unchanged, nothing to do"
    stamp.unlink(missing_ok=True)
    sets = {name: _read_set(source, name, spec) for name, spec in SETS.items()}
    hand = [Line(s, "hand") for file in TEXT for s in read_sentences(source / file)]
    hand += [Line(s, "paired") for s in sets["train_paired"]]
    valid = [Line(s, "hand") for file in VALID_TEXT for s in read_sentences(source / file)]
    sentences = {
        **sets,
        "text": [x.sentence for x in hand],
        "valid_text": [x.sentence for x in valid],
    }
    demo_checks.check_sentences(sentences)

    members = an4.read_members(an4.find_archive())
    jobs: list[Job] = []
    for name, spec in SETS.items():
        wavs = datadir / name / "wav"
        shutil.rmtree(wavs, ignore_errors=True)
        repeats = options.acoustic_repeats if name == "train_acoustic" else 1
        jobs += plan(sets[name] * repeats, wavs, spec.split, spec.code, spec.spoiled, options.seed)
    seconds = synthesize_all(jobs, members, options.seed, nj)
    for name, spec in SETS.items():
        own = [job for job in jobs if job.code == spec.code]
        write_data_dir(datadir / name, [_utterance(job) for job in own])
    an4.write_examples(members, datadir / "examples_an4")
    write_lines(datadir / "text" / "hand.jsonl", hand)
    write_lines(datadir / "text" / "valid.jsonl", valid)
    decoded = [name for name in SETS if name == "valid_paired" or name.startswith("test")]
    exclude = [datadir / name / "text" for name in decoded]
    mixed = mix_file(
        datadir / "text" / "hand.jsonl",
        [source / file for file in PHRASES],
        datadir / "text" / "train.jsonl",
        phrase_mix.MixOptions(options.lines, options.seed, options.switch_rate),
        [*exclude, datadir / "text" / "valid.jsonl"],
    )
    report = demo_checks.check_corpus(datadir, SETS, {job.name: seconds[job.name] for job in jobs})
    with atomic_write(stamp, "w") as file:
        json.dump(
            {"key": key, "options": asdict(options), "files": _sizes(datadir)}, file, indent=1
        )
    return f"{report}\ntext: {mixed}\nexamples: {datadir / 'examples_an4'} (real recordings)"


def _read_set(source: Path, name: str, spec: SpeechSet) -> list[Sentence]:
    """Read a set's sentences; where one file feeds several test sets, each takes its languages."""
    found = [s for file in spec.files for s in read_sentences(source / file)]
    allowed = {lang for other in SETS.values() if other.files == spec.files for lang in other.langs}
    for sentence in found:
        if sentence.lang not in allowed:
            raise ValueError(
                f"{sentence.where}: language {sentence.lang} in the sentences of {name}, "
                f"allowed is {' '.join(sorted(allowed))}"
            )
    chosen = [s for s in found if s.lang in spec.langs]
    if not chosen:
        raise ValueError(
            f"{name}: no {'/'.join(spec.langs)} sentence in {' '.join(spec.files)} of {source}"
        )
    return chosen


def _utterance(job: Job) -> Utterance:
    sentence = job.sentence
    extra = {
        "utt2tags": " ".join(tags_of(sentence)),
        "utt2topic": sentence.topic,
        "utt2cond": job.condition,
    }
    return Utterance(
        job.name, job.speaker.name, sentence.text, sentence.lang, job.wav.resolve(), extra
    )


def _key(source: Path, options: DemoOptions) -> str:
    """Hash all that decides the outcome: sentences, options, code, the synthesiser's version."""
    names = sorted(
        {file for spec in SETS.values() for file in spec.files} | {*TEXT, *VALID_TEXT, *PHRASES}
    )
    parts: list[bytes] = [
        json.dumps(asdict(options), sort_keys=True).encode(),
        NORMALIZER_VERSION.encode(),
    ]
    parts.append(
        subprocess.run([espeak.PROGRAM, "--version"], capture_output=True, check=True).stdout
    )
    for path in [*(source / name for name in names), *sorted(Path(__file__).parent.glob("*.py"))]:
        if not path.is_file():
            raise FileNotFoundError(f"{path}: missing")
        parts += [path.name.encode(), path.read_bytes()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def _sizes(datadir: Path) -> dict[str, int]:
    """List the finished files with their sizes; text/train.jsonl may be mixed anew: left out."""
    roots: Sequence[str] = (*SETS, "examples_an4", "text")
    paths: Iterable[Path] = (path for root in roots for path in (datadir / root).rglob("*"))
    return {
        path.relative_to(datadir).as_posix(): path.stat().st_size
        for path in sorted(paths)
        if path.is_file() and path.name not in ("train.jsonl", ".train.mix.json")
    }


def _unchanged(stamp: Path, key: str, datadir: Path) -> bool:
    """Tell whether the corpus of this key is there and whole, and where it was made."""
    if not stamp.is_file() or not (datadir / "text" / "train.jsonl").is_file():
        return False
    made = json.loads(stamp.read_text(encoding="utf-8"))
    if made["key"] != key:
        return False
    for file, size in made["files"].items():
        path = datadir / file
        if not path.is_file() or path.stat().st_size != size:
            return False
    first = (datadir / "test_cs" / "wav.scp").read_text(encoding="utf-8").split("\n")[0]
    return os.path.isfile(first.partition(" ")[2])
