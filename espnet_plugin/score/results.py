"""All systems on all sets: scored in one process, and written to `results.json`."""

import importlib.metadata
import platform
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from espnet_plugin.checkpoint import read_json, sha256_file, write_json
from espnet_plugin.data.overlap import REPORT as OVERLAPS
from espnet_plugin.data.tables import read_table
from espnet_plugin.score.bootstrap import RESAMPLES
from espnet_plugin.score.metrics import Scored, score_system
from espnet_plugin.score.testset import TestSet, read_test_set
from espnet_plugin.stages import merged_from
from espnet_plugin.text import NORMALIZER_VERSION

PACKAGES = ("espnet-asyncswitch", "espnet", "torch", "transformers", "openai-whisper", "numpy")
AUDIO_TABLES = ("wav.scp", "utt2num_samples", "utt2crc32")
THREADS = 4  # results scored at a time


@dataclass(frozen=True)
class Report:
    """Everything that was scored.

    Attributes:
        sets: references by name of the set.
        scored: scores by (system, set).
        meta: versions, configuration and hashes.
    """

    sets: dict[str, TestSet]
    scored: dict[tuple[str, str], Scored]
    meta: dict[str, Any]

    @property
    def systems(self) -> list[str]:
        """Names of the systems, in the order in which they were given."""
        return list(dict.fromkeys(system for system, _ in self.scored))

    def get(self, system: str, test_set: str) -> Scored:
        """Look up the scores of a system on a set.

        Raises:
            ValueError: they are not in this report; lists what is.
        """
        if (system, test_set) not in self.scored:
            known = ", ".join(f"{s} on {t}" for s, t in self.scored) or "nothing"
            raise ValueError(f"no scores of {system} on {test_set}; there are {known}")
        return self.scored[system, test_set]

    def result(self, system: str, test_set: str) -> dict[str, Any]:
        """The entry of `results.json` of a system on a set; see `get`."""
        return self.get(system, test_set).result


def decode_dir(expdir: Path, system: str, tag: str, test_set: str) -> Path:
    """Where a system's decoded text of a set lies."""
    return expdir / system / f"decode_{tag}" / test_set


def score_all(
    expdir: Path,
    dumpdir: Path,
    systems: Sequence[str],
    sets: Sequence[str],
    tag: str = "greedy",
    valid_sets: Sequence[str] = (),
    text_only: frozenset[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Report:
    """Score every system on every set.

    Args:
        expdir: holds a directory for each system.
        dumpdir: holds a data directory for each set.
        systems: names of the systems.
        sets: names of the test sets; every system must have been decoded on each.
        tag: name of the decoding, as in `decode_<tag>`.
        valid_sets: names of validation sets; scored for the systems that were decoded on them.
        text_only: words met in text only, see `vocabulary`.
        resamples: resampled sets for the intervals.
        seed: seed of the resampling.

    Returns:
        The report. Beside each decoded text stand `score_wer/` and `score_cer/`.

    Raises:
        FileNotFoundError: a decoded text or a reference is missing; says which stage makes it.
        ValueError: malformed files; a missing hypothesis; a model or set that has changed since it
            was decoded.
    """
    tests = {name: _read_set(dumpdir / name) for name in dict.fromkeys([*sets, *valid_sets])}
    decoded: dict[tuple[str, str], Path] = {}
    for system in systems:
        for name in tests:
            directory = decode_dir(expdir, system, tag, name)
            if (directory / "text").is_file():
                decoded[system, name] = directory
            elif name in sets:
                text = directory / "text"
                raise FileNotFoundError(f"{text}: no such file; stage 12 (decode) makes it")

    for (system, name), directory in [*decoded.items()]:
        if newer := newer_than(directory, expdir, system, dumpdir / name):
            found = f"{directory}: {newer} was written since"
            if name in sets:
                raise ValueError(f"{found}; stage 12 (decode) does again what has changed")
            print(f"{found}: left out; stage 12 decodes it again where it is asked to")
            del decoded[system, name]

    def score(key: tuple[str, str]) -> Scored:
        directory = decoded[key]
        hyps = read_table(directory / "text", allow_empty=True)
        scores = score_system(tests[key[1]], hyps, directory, key[0], text_only, resamples, seed)
        if (directory / "decode.json").is_file():
            scores.result["rtfx"] = read_json(directory / "decode.json").get("rtfx")
        scores.result["text_sha256"] = sha256_file(directory / "text")
        return scores

    # threads: half of the time goes to sclite, which is a process of its own, and to the disk
    with ThreadPoolExecutor(THREADS) as pool:
        scored = dict(zip(decoded, pool.map(score, decoded), strict=True))
    meta: dict[str, Any] = {
        "normalizer_version": NORMALIZER_VERSION,
        "versions": _versions(),
        "configuration": {
            "tag": tag,
            "systems": list(systems),
            "sets": list(sets),
            "valid_sets": list(valid_sets),
            "bootstrap_resamples": resamples,
            "bootstrap_seed": seed,
            "n_text_only_vocabulary": None if text_only is None else len(text_only),
        },
    }
    meta["decoded_otherwise"] = decoded_otherwise(decoded)
    shared = dumpdir / OVERLAPS
    if shared.is_file():
        lines = shared.read_text(encoding="utf-8").splitlines()
        meta["shared"] = [line[2:] for line in lines if line.startswith("- ")]
    return Report(tests, scored, meta)


def newer_than(directory: Path, expdir: Path, system: str, data: Path) -> Path | None:
    """Return a file of the model or the set that is newer than what was decoded; None: none is.

    Times decide here; stage 12 compares content, and renews the time of what is still right.
    """
    record = directory / "decode.json"
    if not record.is_file():
        return None  # a text from elsewhere
    models = [expdir / system]
    if (merged := merged_from(system)) and not list(models[0].glob("*.safetensors")):
        models = [expdir / name for name in merged]
    files = [path for model in models for path in model.glob("*.safetensors")]
    files += [data / name for name in AUDIO_TABLES if (data / name).is_file()]
    decoded = record.stat().st_mtime_ns
    return next((path for path in files if path.stat().st_mtime_ns > decoded), None)


def decoded_otherwise(decoded: Mapping[tuple[str, str], Path]) -> list[str]:
    """Say which systems were decoded with other options than most.

    Args:
        decoded: directory by (system, set).

    Returns:
        A line for each set of systems and options.
    """
    options: dict[tuple[str, str], dict[str, Any]] = {}
    for key, directory in decoded.items():
        record = directory / "decode.json"
        found = read_json(record).get("options") if record.is_file() else None
        if found:
            options[key] = found
    names = dict.fromkeys(name for found in options.values() for name in found)
    lines: dict[str, list[str]] = {}
    for name in names:
        values = {key: str(found.get(name)) for key, found in options.items()}
        usual = Counter(values.values()).most_common(1)[0][0]
        for (system, test_set), value in values.items():
            if value != usual:
                what = f"{system}: {name} {value}, where most have {usual}"
                lines.setdefault(what, []).append(test_set)
    return [f"{what} ({', '.join(sets)})" for what, sets in lines.items()]


def _read_set(directory: Path) -> TestSet:
    if not directory.is_dir():
        raise FileNotFoundError(f"{directory}: no such directory; stage 3 (format) makes it")
    return read_test_set(directory)


def write_results(report: Report, expdir: Path) -> Path:
    """Write `results.json`: `meta` (with a hash of each system's model) and `results`.

    Returns:
        The file's path.
    """
    path = expdir / "results.json"
    known = _known_hashes(path)
    models = {
        system: hashes for system in report.systems if (hashes := _hashes(expdir / system, known))
    }
    results = [plain(scored.result) for scored in report.scored.values()]
    write_json(path, {"meta": {**report.meta, "models": models}, "results": results})
    return path


def _known_hashes(path: Path) -> dict[tuple[str, int, int], str]:
    """Hashes in an earlier `results.json`: files of the same size and time are not read again."""
    try:
        models = read_json(path)["meta"]["models"]
        return {
            (entry["path"], entry["bytes"], entry["mtime_ns"]): entry["sha256"]
            for files in models.values()
            for entry in files
        }
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _hashes(directory: Path, known: dict[tuple[str, int, int], str]) -> list[dict[str, Any]]:
    entries = []
    for path in sorted([*directory.glob("*.safetensors"), *directory.glob("config.*")]):
        name = f"{directory.name}/{path.name}"
        key = (name, path.stat().st_size, path.stat().st_mtime_ns)
        digest = known.get(key) or sha256_file(path)
        entries.append(dict(path=name, bytes=key[1], mtime_ns=key[2], sha256=digest))
    return entries


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = "not installed"
    return versions


def plain(value: Any) -> Any:
    """Turn numpy numbers into Python's, and round figures to what they can mean (1e-4 percent)."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return round(float(value), 4)
    return value


def read_results(path: Path) -> list[dict[str, Any]]:
    """Read the results of a `results.json`.

    Raises:
        FileNotFoundError: it does not exist.
        ValueError: it has no results.
    """
    content = read_json(path)
    results = content.get("results") if isinstance(content, dict) else None
    if not results:
        raise ValueError(f"{path}: no results in it")
    return results


def wer_table(results: Iterable[dict[str, Any]]) -> dict[tuple[str, str], float]:
    """WER in percent by (system, set)."""
    return {(entry["system"], entry["test_set"]): entry["wer"] for entry in results}
