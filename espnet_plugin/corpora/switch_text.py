"""Synthetic code-switched text, after the idea of arXiv 2506.14177: phrases exchanged in sentences.

    python -m espnet_plugin.bin.synth_data switch --parallel corpus.ms.txt corpus.en.txt \
        --output data/text/switched.jsonl --exclude data/test_cs/text
    python -m espnet_plugin.bin.synth_data switch --monolingual news.txt --lexicon ms-en.tsv \
        --output data/text/switched.jsonl

The paper mixes phrases of monolingual corpora; the procedure here is our own:

1. A lexicon, or translation statistics learnt from (a sample of) the parallel corpus, says which
   words belong together (`switch_text_align`).
2. Phrases that can be exchanged are those that translate each other as a whole and whose edges are
   phrase boundaries: punctuation, the longest matches of the lexicon, and function words that open
   or close a phrase (`switch_text_phrases`, `switch_text_rules`: what is refused, and why).
3. For each sentence some candidates are drawn whose number of switches, places and lengths follow
   what was measured on real text (`switch_patterns`, `switch_text_mix`). Those that switch back
   sooner or more often than people do go.
4. Of the candidates the one is kept whose patterns the text lacks most (`switch_text_choose`).

Units of the input go to worker processes, and steps 4 and the writing are done by one, in order. So
the same input, options and seed give the same bytes, whatever the number of workers. Memory does
not grow with the corpus, but for 16 bytes a line against repeated ones. A killed run goes on where
it was; a finished one with the same input does nothing. `<output>.report.json` says what was
reached beside what was wanted, and counts every sentence that was not used.
"""

import hashlib
import heapq
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import atomic_write, read_json, sha256_file, write_json
from espnet_plugin.cli import progress
from espnet_plugin.corpora.switch_patterns import Patterns, distance, read_patterns
from espnet_plugin.corpora.switch_text_align import Translations, learn
from espnet_plugin.corpora.switch_text_choose import Chooser
from espnet_plugin.corpora.switch_text_pairs import units
from espnet_plugin.corpora.switch_text_plan import Plan, targets
from espnet_plugin.corpora.switch_text_run import Options, Run
from espnet_plugin.corpora.switch_text_unit import forget, sample_words, tagger_of
from espnet_plugin.corpora.text_lines import check_output
from espnet_plugin.text.dedup import line_hashes
from espnet_plugin.text.executors import Executor, LocalExecutor
from espnet_plugin.text.sources import SourceSettings, blocks, expand, fingerprint, read

VERSION = 1  # raised when the same input gives other output


def switch_text(
    plan: Plan,
    output: str | Path,
    options: Options,
    exclude: Sequence[str | Path] = (),
    lexicon_output: str | Path | None = None,
) -> dict[str, Any]:
    """Make a file of code-switched lines.

    Args:
        plan: Input, pair, lexicon, patterns, seed.
        output: The ``.jsonl`` file to write, atomically.
        options: How much.
        exclude: Files of validation and test sentences (any format of ``text.sources``): no such
            sentence is read, learnt from or made.
        lexicon_output: Where to write the words that were learnt to translate each other, as a
            lexicon for monolingual text (``first<TAB>second``, the most certain first).

    Returns:
        The report.

    Raises:
        FileNotFoundError: A missing file.
        ValueError: A malformed file or option, an output that is no ``.jsonl`` or was there and was
            not made so, or no line made.
    """
    output = Path(output)
    report_path, work = output.with_suffix(".report.json"), output.with_name(f".{output.stem}.work")
    check_output(output, [report_path, work])
    if output.suffix != ".jsonl":
        raise ValueError(f"{output}: the output is a .jsonl file")
    learns = bool(plan.inputs.parallel) and plan.alignment == "statistics"
    if lexicon_output is not None and not learns:
        raise ValueError("--lexicon_output: nothing is learnt without a parallel corpus")
    excluded = expand(exclude) if exclude else []
    tagger = tagger_of(plan.pair)
    patterns = read_patterns(plan.patterns, tagger.languages)
    wanted = targets(patterns, plan.cmi)
    key = _key(plan, options, excluded, tagger.fingerprint)
    if output.is_file() and report_path.is_file():
        report: dict[str, Any] = read_json(report_path)
        same = (report["key"], report["bytes"]) == (key, output.stat().st_size)
        if same and (lexicon_output is None or Path(lexicon_output).is_file()):
            return report | {"unchanged": True}
    if work.is_dir() and (
        not (work / "key").is_file() or (work / "key").read_text(encoding="utf-8") != key
    ):
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    with atomic_write(work / "key", "w") as file:
        file.write(key)
    if excluded:
        plan = replace(plan, excluded=str(work / "excluded.npy"))
        with atomic_write(work / "excluded.npy") as file:
            np.save(file, sentence_hashes(excluded))
    with LocalExecutor(options.nj) as executor:
        learnt: Translations | None = None
        if learns:
            path = work / "translations.npz"
            if not path.is_file():
                _learn(plan, executor, options.sample).save(path)
            learnt = Translations.load(path)
            if lexicon_output is not None:
                with atomic_write(lexicon_output, "w") as file:
                    file.writelines(f"{one}\t{two}\n" for one, two, _ in learnt.lexicon())
            plan = replace(plan, translations=str(path))
        chooser = Chooser(wanted, tagger.languages, options.turn_away)
        run = Run(plan, work, options, chooser, tagger.tags)
        run.go(executor)
    forget()
    made = len(run.seen)
    if not made:
        raise ValueError(_nothing(plan, run))
    report = {
        "version": VERSION,
        "key": key,
        "lines": made,
        "sentences": run.read,
        "sentences_used": run.used,
        "turned_away": run.turned_away,
        "dropped": dict(run.dropped.most_common()),
        "phrases_refused": dict(run.refused.most_common()),
        "target": _target(patterns, wanted),
        "reached": run.chooser.reached.figures(),
        "distance": distance({name: run.chooser.reached.shares(name) for name in wanted}, wanted),
        "histograms": {
            name: {
                "target": np.round(wanted[name], 4).tolist(),
                "reached": np.round(run.chooser.reached.shares(name), 4).tolist(),
            }
            for name in wanted
        },
        "statistics": run.stats.figures(),
        "learnt": None
        if learnt is None
        else {"pairs": learnt.pairs, "translations": len(learnt.cells)},
        "settings": _settings(plan) | asdict(options),
    }
    output.unlink(missing_ok=True)
    report_path.unlink(missing_ok=True)
    with atomic_write(output) as file:
        for part in run.parts():
            with open(part, "rb") as lines:
                shutil.copyfileobj(lines, file)
    report["bytes"] = output.stat().st_size
    write_json(report_path, report)
    shutil.rmtree(work)
    return report


def _settings(plan: Plan) -> dict[str, Any]:
    settings = asdict(plan)
    for name in ("translations", "excluded"):  # files of this run
        del settings[name]
    return settings


def _key(plan: Plan, options: Options, excluded: Sequence[Path], tagger: str) -> str:
    """Hash what decides the outcome: input, lexicon, patterns, rules, options, tagger."""
    given = [*plan.lexicon, *(path for path in (plan.patterns, plan.rules) if path)]
    for path in given:
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: no such file")
    settings = asdict(options)
    del settings["nj"]
    what = {
        "version": VERSION,
        "input": fingerprint(plan.inputs.paths()),
        "files": [sha256_file(path) for path in given],
        "excluded": fingerprint(excluded),
        "plan": _settings(plan),
        "options": settings,
        "tagger": tagger,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def sentence_hashes(paths: Sequence[Path]) -> np.ndarray:
    """Hash the sentences of files (any format of ``text.sources``).

    Returns:
        `(n,)` uint64 (``text.dedup.line_hashes``), sorted, each once.
    """
    settings = SourceSettings()
    found = [line_hashes(read(block, settings).texts) for block in blocks(paths, settings)]
    return np.unique(np.concatenate([np.zeros(0, np.uint64), *found]))


def _learn(plan: Plan, executor: Executor, size: int) -> Translations:
    """Learn translations from the pairs whose hashes are smallest: a sample in any order."""
    heap: list[tuple[int, tuple[str, ...], tuple[str, ...]]] = []
    limit = [1 << 64]

    def items() -> Iterator[Any]:
        # the limit only spares the workers what would not get into the sample: the number of
        # them decides how early it falls, and nothing else
        for unit in units(plan.inputs):
            yield unit, limit[0]

    with progress(None, "sample of sentence pairs", "pairs") as bar:
        for found in executor.ordered_map(partial(sample_words, plan), items()):
            bar.update(len(found))
            for value, first, second in found:
                entry = -value, first, second
                if len(heap) < size:
                    heapq.heappush(heap, entry)
                elif entry > heap[0]:
                    heapq.heapreplace(heap, entry)
            if len(heap) == size:
                limit[0] = -heap[0][0]
    if not heap:
        raise ValueError(f"{' '.join(plan.inputs.parallel)}: no pair of sentences")
    return learn([(first, second) for _, first, second in sorted(heap, reverse=True)])


def _nothing(plan: Plan, run: Run) -> str:
    reasons = ", ".join(f"{reason}: {n}" for reason, n in run.dropped.most_common(5))
    refused = ", ".join(f"{reason}: {n}" for reason, n in run.refused.most_common(5))
    return (
        f"{' '.join(map(str, plan.inputs.paths()))}: no line can be made of {run.read} sentences "
        f"({reasons or 'none was left over'}{'; phrases refused: ' + refused if refused else ''})"
    )


def _target(patterns: Patterns, wanted: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return the target's figures; where the CMI was bent, with that mean."""
    figures = patterns.figures()
    bent = wanted["cmi"] - patterns.shares("cmi")
    if np.abs(bent).max() > 1e-9:
        figures["cmi"] = round(patterns.mean_cmi + 5 * float(np.arange(len(bent)) @ bent), 2)
    return figures
