"""Scoring of two Kaldi text files."""

from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import write_json
from espnet_plugin.data.tables import read_table
from espnet_plugin.score.metrics import score_system
from espnet_plugin.score.results import plain
from espnet_plugin.score.testset import make_test_set
from espnet_plugin.text import NORMALIZER_VERSION


def score_files(
    ref: Path,
    hyp: Path,
    output: Path,
    name: str = "",
    lang: str = "",
    utt2lang: Path | None = None,
    tags: Path | None = None,
) -> dict[str, Any]:
    """Score hypotheses against references.

    Args:
        ref: references, `utterance text` a line, sorted.
        hyp: hypotheses of the same utterances.
        output: directory for `score_wer/`, `score_cer/` and `results.json`.
        name: the system's name; default that of the hypotheses' directory.
        lang: language of all utterances.
        utt2lang: language of each utterance; default the file `utt2lang` beside `ref`.
        tags: language tags, one for each normalised reference word.

    Returns:
        The result, as in `results.json`.

    Raises:
        FileNotFoundError: a file or sclite is missing.
        ValueError: no language, or two; utterances differ; tags do not fit; malformed files.
    """
    if lang and utt2lang is not None:
        raise ValueError(f"--lang {lang} and --utt2lang {utt2lang}: give one of them")
    beside = ref.parent / "utt2lang"
    if utt2lang is None and not lang:
        if not beside.is_file():
            raise ValueError(f"which language is {ref}? give --lang cs|ms|en|.. or --utt2lang FILE")
        utt2lang = beside
    test = make_test_set(
        ref.resolve().parent.name,
        read_table(ref, allow_empty=True),
        lang if utt2lang is None else read_table(utt2lang),
        None if tags is None else read_table(tags, allow_empty=True),
    )
    system = name or hyp.resolve().parent.name
    result = plain(score_system(test, read_table(hyp, allow_empty=True), output, system).result)
    meta = {"normalizer_version": NORMALIZER_VERSION, "ref": str(ref), "hyp": str(hyp)}
    write_json(output / "results.json", {"meta": meta, "results": [result]})
    return result
