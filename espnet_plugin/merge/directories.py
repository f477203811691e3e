"""Two model directories merged into others, in one pass over the files and in bounded memory."""

import re
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import Any

import numpy as np

from espnet_plugin import __version__
from espnet_plugin.checkpoint import (
    CARRIED,
    EMBEDDING,
    model_dir_exists,
    model_dir_writer,
    model_hash,
    model_layout,
    read_json,
    sha256_file,
    split_shards,
    tensor_hashes,
    usable_threads,
)
from espnet_plugin.merge.pair import Pair
from espnet_plugin.merge.ratios import DEFAULT_RATIO, check_ratios
from espnet_plugin.merge.stream import Target, stream
from espnet_plugin.room import check_room

RECORD = "merge.json"
FORMULA = "ratio * tuned + (1 - ratio) * base, in float32"
SIDES = ("base", "tuned")
UNITS = {"KB": 10**3, "MB": 10**6, "GB": 10**9}


def merge(
    base: str | Path,
    tuned: str | Path,
    output: str | Path,
    ratio: float = DEFAULT_RATIO,
    group_ratio: Mapping[str, float] | None = None,
    layer_ratio: Mapping[str, float] | None = None,
    **options: Any,
) -> Path:
    """Merge two model directories into a third; see `merge_sweep`, of which it is one step."""
    return merge_sweep(base, tuned, {ratio: output}, group_ratio, layer_ratio, **options)[0]


def merge_sweep(
    base: str | Path,
    tuned: str | Path,
    outputs: Mapping[float, str | Path],
    group_ratio: Mapping[str, float] | None = None,
    layer_ratio: Mapping[str, float] | None = None,
    *,
    dtype: str | None = None,
    max_shard_size: int | str | None = None,
    threads: int | None = None,
    hash_inputs: bool = True,
    show_progress: bool = False,
) -> list[Path]:
    """Merge two model directories at several ratios; the inputs are read once.

    Configuration, tokenizer, token list and generation settings come from ``base``. Each output
    also has ``merge.json``: ratios, hashes of the inputs (`checkpoint.model_hash`; the same for the
    same tensors, however they are cut into files), versions. An output that was made from the same
    inputs in the same way is kept.

    Args:
        base: Directory of the original model.
        tuned: Directory of the adapted model.
        outputs: Directory to write for each ratio (the share of ``tuned``).
        group_ratio: Ratios that replace it for some groups, such as ``{"encoder": 0.2}``.
        layer_ratio: Ratios that replace it for some layers, such as ``{"decoder.0-5": 0.2}``; see
            `espnet_plugin.merge.ratios_by_name`.
        dtype: Storage type; None keeps each tensor's type in ``base``.
        max_shard_size: Bytes, or a text such as ``"2GB"``: the weights are cut into files of at
            most that size. None is one file.
        threads: How many; None goes by the machine. The result does not depend on it.
        hash_inputs: False saves the hashing; the outputs are then never taken for finished.
        show_progress: Report bytes read on stderr.

    Returns:
        The directories written or kept, in the order of ``outputs``.

    Raises:
        FileNotFoundError: An input is not a model directory.
        ValueError: The models do not fit each other (the tensor is named), a value is NaN or
            infinite, inputs or outputs coincide, a ratio, group or layer is wrong, the disk has no
            room. Nothing is left behind then.
    """
    for ratio in outputs:
        check_ratios(ratio, group_ratio, layer_ratio)
    shard_bytes, threads = size_in_bytes(max_shard_size), usable_threads(threads)
    _check_places(Path(base), Path(tuned), list(outputs.values()))
    pair = Pair(base, tuned, group_ratio, layer_ratio, dtype)
    same = {"group_ratio": group_ratio or {}, "layer_ratio": layer_ratio or {}, "dtype": dtype}
    records = {r: _record(pair, r, {**same, "max_shard_size": shard_bytes}) for r in outputs}
    todo = _unfinished(pair, outputs, records, threads)
    if not todo:
        return [Path(output) for output in outputs.values()]
    shards = split_shards({name: pair.nbytes(name) for name in pair.names}, shard_bytes)
    size = sum(pair.nbytes(name) for name in pair.names)
    what = f"{len(todo)} outputs of {size / 1e9:.2f} GB each are written"
    check_room([(Path(outputs[ratio]), size) for ratio in todo], what)
    stored = pair.dtypes[EMBEDDING]
    with ExitStack() as stack:
        targets = []
        for ratio in todo:
            extra = {RECORD: records[ratio]}
            writer = model_dir_writer(base, outputs[ratio], stored, extra)
            targets.append(Target.make(stack.enter_context(writer), shards, pair))
        hashes = stream(pair, todo, targets, threads, hash_inputs, show_progress)
        for target in targets:
            target.finish()
        for ratio in todo:
            for side, found in zip(SIDES, hashes or (), strict=False):
                records[ratio][side]["model_hash"] = found
    return [Path(output) for output in outputs.values()]


def _record(pair: Pair, ratio: float, options: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a merge is made; the hashes of the inputs are known when they have been read."""
    return {
        "formula": FORMULA,
        "ratio": ratio,
        **{k: dict(v) if isinstance(v, Mapping) else v for k, v in options.items()},
        "base": {"path": str(pair.base), "model_hash": None},
        "tuned": {"path": str(pair.tuned), "model_hash": None},
        "carried": {n: sha256_file(pair.base / n) for n in CARRIED if (pair.base / n).is_file()},
        "versions": {
            "espnet_asyncswitch": __version__,
            "numba": version("numba"),
            "numpy": np.__version__,
            "python": python_version(),
        },
    }


def _unfinished(
    pair: Pair,
    outputs: Mapping[float, str | Path],
    records: Mapping[float, dict[str, Any]],
    threads: int,
) -> list[float]:
    """Return the ratios whose outputs do not hold this very merge already.

    The inputs are hashed beforehand only where everything else agrees.

    Raises:
        ValueError: An output holds a model that is not a merge, which is never overwritten.
    """
    todo, hashes = [], None
    for ratio, output in outputs.items():
        old, new = _old_record(Path(output)), records[ratio]
        same = old is not None and _without_inputs(old) == _without_inputs(new)
        if not same or not _is_whole(Path(output), pair):
            todo.append(ratio)
            continue
        if hashes is None:
            hashes = [model_hash(tensor_hashes(d, threads)) for d in (pair.base, pair.tuned)]
        if [old[side].get("model_hash") for side in SIDES] != hashes:
            todo.append(ratio)
    return todo


def _old_record(output: Path) -> Any:
    if not model_dir_exists(output):
        return None
    if not (output / RECORD).is_file():
        raise ValueError(f"{output}: holds a model that is not a merge; choose another output")
    record = read_json(output / RECORD)
    fits = isinstance(record, dict) and all(isinstance(record.get(s), dict) for s in SIDES)
    return record if fits else None


def _is_whole(output: Path, pair: Pair) -> bool:
    """Tell whether an output's files are complete and hold the tensors of the merge."""
    try:
        found = {name: (place.dtype, place.shape) for name, place in model_layout(output).items()}
    except (ValueError, FileNotFoundError):
        return False
    carried = all((output / name).is_file() for name in CARRIED if (pair.base / name).is_file())
    return carried and found == {name: pair.spec(name) for name in pair.names}


def _without_inputs(record: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in record.items() if k not in (*SIDES, "versions")}


def _check_places(base: Path, tuned: Path, outputs: Sequence[str | Path]) -> None:
    if base.resolve() == tuned.resolve():
        raise ValueError(f"base and tuned are the same directory, {base}")
    places = [Path(output).resolve() for output in outputs]
    for output in places:
        for side, path in (("base", base), ("tuned", tuned)):
            if output == path.resolve():
                raise ValueError(f"the output {output} is the {side} model, which would be lost")
        if places.count(output) > 1:
            raise ValueError(f"two ratios would be written to {output}")


def size_in_bytes(size: int | str | None) -> int | None:
    """Return a file size in bytes; a text is a number with KB, MB or GB (powers of 1000).

    Raises:
        ValueError: It is written in another way, or not above 0.
    """
    if size is None:
        return None
    if isinstance(size, str):
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]B)", size.strip().upper())
        if match is None:
            raise ValueError(f"max_shard_size: {size!r} is no size; write 500MB or 2GB")
        size = round(float(match[1]) * UNITS[match[2]])
    if size <= 0:
        raise ValueError(f"max_shard_size: {size} bytes, more than 0 are needed")
    return size
