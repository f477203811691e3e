"""The metrics of one system on one set."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.score.alignment import Alignment, align
from espnet_plugin.score.bootstrap import RESAMPLES, interval
from espnet_plugin.score.sclite import run_sclite
from espnet_plugin.score.switching import cmi, switch_errors
from espnet_plugin.score.testset import TestSet

SPACE = "<space>"  # between words when characters are scored, as ESPnet writes it
CMI_BINS = (0.0, 20.0, 40.0, 100.0)


@dataclass(frozen=True)
class Scored:
    """Scores of one system on one set.

    Attributes:
        result: the entry of `results.json`.
        errors: word errors of each utterance, (utterances,) int.
        n_ref: reference words of each utterance, (utterances,) int.
        hyps: hypotheses as decoded, by utterance.
    """

    result: dict[str, Any]
    errors: np.ndarray = field(repr=False)
    n_ref: np.ndarray = field(repr=False)
    hyps: Mapping[str, str] = field(repr=False)


def score_system(
    test: TestSet,
    hyps: Mapping[str, str],
    directory: Path,
    system: str,
    text_only: frozenset[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Scored:
    """Score the hypotheses of one system on one set.

    Args:
        test: the references.
        hyps: hypothesis text by utterance, exactly those of the references.
        directory: gets `score_wer/` and `score_cer/` with sclite's input and report.
        system: the system's name.
        text_only: words met in text only, normalised; None leaves their error out.
        resamples: resampled sets for the interval.
        seed: seed of the resampling.

    Returns:
        The result (see `DESIGN.md`: percentages `wer cer wer_raw wer_ci95`, counts `sub del ins
        n_ref n_utt`, and the parts that the set's files allow) with the counts of each utterance.

    Raises:
        FileNotFoundError: sclite is not installed.
        ValueError: hypotheses are missing or surplus; sclite fails.
    """
    words = test.normalize_hypotheses(hyps)
    counts = run_sclite(test.words, words, directory / "score_wer")
    letters = run_sclite(_letters(test.words), _letters(words), directory / "score_cer")
    aligned = {utt: align(ref, words[utt]) for utt, ref in test.words.items()}
    raw = [align(ref.split(), hyps[utt].split()) for utt, ref in test.raw.items()]
    errors = np.array([alignment.errors for alignment in aligned.values()])
    n_ref = np.array([alignment.n_ref for alignment in aligned.values()])
    if (counts.errors, counts.n_ref) != (errors.sum(), n_ref.sum()):
        raise RuntimeError(f"{directory}: sclite counts {counts}, align {errors.sum()} errors")
    result: dict[str, Any] = {
        "system": system,
        "test_set": test.name,
        "wer": counts.rate,
        "cer": letters.rate,
        "wer_raw": _percent(sum(a.errors for a in raw), sum(a.n_ref for a in raw)),
        "sub": counts.sub,
        "del": counts.dele,
        "ins": counts.ins,
        "n_ref": counts.n_ref,
        "n_utt": counts.n_utt,
        "wer_ci95": list(interval(errors, n_ref, resamples, seed)),
    }
    if text_only is not None:
        wrong, total = errors_on_words(test.words, aligned, lambda word: word in text_only)
        result |= {"wer_text_only_words": _percent(wrong, total), "n_text_only_words": total}
    if test.tags is not None:
        result |= _switching(test.tags, aligned)
    if test.conditions is not None:
        result["wer_by_cond"] = _by_group(test.conditions, aligned)
    return Scored(result, errors, n_ref, hyps)


def errors_on_words(
    refs: Mapping[str, Sequence[str]],
    aligned: Mapping[str, Alignment],
    chosen: Callable[[str], bool],
) -> tuple[int, int]:
    """Count errors on some of the reference words: substitutions and deletions.

    Args:
        refs: reference words by utterance.
        aligned: their alignments.
        chosen: says which words count.

    Returns:
        How many of the words are wrong, and how many there are.
    """
    wrong = total = 0
    for utt, alignment in aligned.items():
        for word, error in zip(refs[utt], alignment.ref_errors, strict=True):
            if chosen(word):
                total += 1
                wrong += error
    return wrong, total


def _letters(texts: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """Characters of normalised words, with a mark for the spaces between words."""
    spelt: dict[str, list[str]] = {}
    for utt, words in texts.items():
        spelt[utt] = [letter for word in words for letter in (SPACE, *word)][1:]
    return spelt


def _percent(errors: int, total: int) -> float | None:
    return 100.0 * errors / total if total else None


def _switching(
    tags: Mapping[str, Sequence[str]], aligned: Mapping[str, Alignment]
) -> dict[str, Any]:
    """Error by language of the reference word (without insertions), at switches, and by CMI."""
    by_language: dict[str, list[int]] = {}
    wrong = points = 0
    for utt, alignment in aligned.items():
        for tag, error in zip(tags[utt], alignment.ref_errors, strict=True):
            count = by_language.setdefault(tag, [0, 0])
            count[0] += error
            count[1] += 1
        utt_wrong, utt_points = switch_errors(alignment, tags[utt])
        wrong, points = wrong + utt_wrong, points + utt_points
    result: dict[str, Any] = {
        "wer_by_language": {
            tag: {"wer": _percent(*count), "errors": count[0], "n_ref": count[1]}
            for tag, count in sorted(by_language.items())
        },
        "wer_by_cmi": _by_group(
            {utt: _cmi_bin(utt_tags) for utt, utt_tags in tags.items()}, aligned
        ),
    }
    if points:
        result |= {"pier": _percent(wrong, points), "n_pier": points}
    return result


def _cmi_bin(tags: Sequence[str]) -> str:
    value = cmi(tags)
    if value == 0.0:
        return "0"
    upper = next(bound for bound in CMI_BINS[1:] if value <= bound)
    return f"{CMI_BINS[CMI_BINS.index(upper) - 1]:g}-{upper:g}"


def _by_group(groups: Mapping[str, str], aligned: Mapping[str, Alignment]) -> dict[str, Any]:
    """WER of groups of utterances."""
    counts: dict[str, list[int]] = {}
    for utt, alignment in aligned.items():
        count = counts.setdefault(groups[utt], [0, 0, 0])
        count[0] += alignment.errors
        count[1] += alignment.n_ref
        count[2] += 1
    return {
        name: {"wer": _percent(errors, n_ref), "errors": errors, "n_ref": n_ref, "n_utt": n_utt}
        for name, (errors, n_ref, n_utt) in sorted(counts.items())
    }
