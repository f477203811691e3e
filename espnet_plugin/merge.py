"""Interpolate two Whisper models: ``ratio * tuned + (1 - ratio) * base``, per parameter group.

Equation 6 of the paper (arXiv 2506.14190, section III-D) with its ratio of 0.4; linear
interpolation after fine-tuning is WiSE-FT (arXiv 2109.01903). Sums are taken in float32, whatever
the models are stored in. Tensors are read, merged and written one at a time, so two large models
need the memory of their largest tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from espnet_plugin.checkpoint import (
    EMBEDDING,
    OUTPUT,
    Tensors,
    load_config,
    model_dir_exists,
    model_dir_writer,
    read_json,
    safetensors_writer,
    sha256_file,
    torch_dtype,
)
from espnet_plugin.cli import nearest
from espnet_plugin.groups import GROUPS, group_of

if TYPE_CHECKING:
    import torch

DEFAULT_RATIO = 0.4
RECORD = "merge.json"
# What must agree for an interpolation of the weights to mean anything.
SHAPE_KEYS = (
    *("vocab_size", "num_mel_bins", "d_model", "encoder_layers", "decoder_layers"),
    *("encoder_attention_heads", "decoder_attention_heads"),
)


def check_ratios(ratio: float, group_ratio: Mapping[str, float] | None = None) -> None:
    """Check a ratio and the ratios of groups.

    Raises:
        ValueError: A ratio lies outside 0..1 or is no number; a group does not exist.
    """
    for where, value in (("ratio", ratio), *(group_ratio or {}).items()):
        if where != "ratio" and where not in GROUPS:
            raise ValueError(
                f"unknown group {where!r}{nearest(where, GROUPS)}: groups are {', '.join(GROUPS)}"
            )
        if not 0.0 <= value <= 1.0:  # false for NaN too
            raise ValueError(f"{where}: ratio {value} lies outside 0..1 (0 is base, 1 is tuned)")


def merge_tensors(base: torch.Tensor, tuned: torch.Tensor, ratio: float) -> torch.Tensor:
    """Interpolate one tensor.

    Args:
        base: Any shape, floating point.
        tuned: The same shape.
        ratio: Share of ``tuned``, 0..1.

    Returns:
        Float32; at ratio 0 and 1 an input itself, in its own dtype, bit for bit.
    """
    import torch

    if ratio == 0.0:
        return base
    if ratio == 1.0:
        return tuned
    return tuned.to(torch.float32).mul(ratio).add_(base.to(torch.float32), alpha=1.0 - ratio)


def merge_states(
    base_state: Mapping[str, torch.Tensor],
    tuned_state: Mapping[str, torch.Tensor],
    ratio: float = DEFAULT_RATIO,
    group_ratio: Mapping[str, float] | None = None,
) -> dict[str, torch.Tensor]:
    """Interpolate two states in memory.

    Args:
        base_state: Tensors by Hugging Face name.
        tuned_state: The same names and shapes.
        ratio: Share of the tuned model, 0..1.
        group_ratio: Ratios that replace it for some of the groups in `espnet_plugin.groups`.

    Returns:
        New tensors in the dtype of the base's.

    Raises:
        ValueError: Names or shapes differ, a value is NaN or infinite, a ratio or group is wrong.
    """
    check_ratios(ratio, group_ratio)
    _check_names(base_state, tuned_state, "base", "tuned")
    merged = {}
    for name, base in base_state.items():
        tuned = tuned_state[name]
        _check_pair(name, base, tuned, "base", "tuned")
        value = merge_tensors(base, tuned, ratio_of(name, ratio, group_ratio))
        merged[name] = _stored(name, value, base.dtype).clone()
    return merged


def ratio_of(name: str, ratio: float, group_ratio: Mapping[str, float] | None) -> float:
    """Return the ratio of one parameter: its group's if that has one, else the common one."""
    return (group_ratio or {}).get(group_of(name), ratio)


def merge(
    base: str | Path,
    tuned: str | Path,
    output: str | Path,
    ratio: float = DEFAULT_RATIO,
    group_ratio: Mapping[str, float] | None = None,
    *,
    dtype: str | None = None,
) -> Path:
    """Merge two model directories into a third; see `merge_sweep`, of which it is one step."""
    return merge_sweep(base, tuned, {ratio: output}, group_ratio, dtype=dtype)[0]


def merge_sweep(
    base: str | Path,
    tuned: str | Path,
    outputs: Mapping[float, str | Path],
    group_ratio: Mapping[str, float] | None = None,
    *,
    dtype: str | None = None,
) -> list[Path]:
    """Merge two model directories at several ratios.

    Configuration, tokenizer, token list and generation settings come from ``base``. Each output
    also has ``merge.json``: ratios, inputs and their hashes, versions. An output that was made from
    the same inputs in the same way is kept.

    Args:
        base: Directory of the original model.
        tuned: Directory of the adapted model.
        outputs: Directory to write for each ratio (the share of ``tuned``).
        group_ratio: Ratios that replace it for some groups.
        dtype: Storage type; None keeps each tensor's type in ``base``.

    Returns:
        The directories written or kept, in the order of ``outputs``.

    Raises:
        FileNotFoundError: An input is not a model directory.
        ValueError: The models do not fit each other (the tensor is named), a value is NaN or
            infinite, inputs or outputs coincide, a ratio or group is wrong.
    """
    for ratio in outputs:
        check_ratios(ratio, group_ratio)
    base, tuned = Path(base), Path(tuned)
    _check_places(base, tuned, list(outputs.values()))
    _check_configs(base, tuned)
    one, two = Tensors(base), Tensors(tuned)
    _check_names(one.files, two.files, base, tuned)
    for name in one.names:
        _check_shapes(name, one.spec(name)[1], two.spec(name)[1], base, tuned)
    wanted = None if dtype is None else torch_dtype(dtype)
    specs = {n: (wanted or d, s) for n, (d, s) in ((n, one.spec(n)) for n in one.names)}
    record = {
        "group_ratio": dict(group_ratio or {}),
        "dtype": dtype,
        "base": {"path": str(base), "files": _hashes(one)},
        "tuned": {"path": str(tuned), "files": _hashes(two)},
        "versions": {p: version(p) for p in ("torch", "safetensors")},
    }
    records = {ratio: {"ratio": ratio, **record} for ratio in outputs}
    todo = [ratio for ratio, output in outputs.items() if not _done(Path(output), records[ratio])]
    main = str(specs[EMBEDDING][0]).removeprefix("torch.")
    with ExitStack() as stack:  # one pass over the inputs, however many ratios
        writers = {}
        for ratio in todo:
            extra = {RECORD: records[ratio]}
            path = stack.enter_context(model_dir_writer(base, outputs[ratio], main, extra))
            writers[ratio] = stack.enter_context(safetensors_writer(path, specs))
        for name, (stored, _) in specs.items() if writers else ():
            pair = one[name], two[name]
            _check_pair(name, *pair, base, tuned)
            for ratio, write in writers.items():
                value = merge_tensors(*pair, ratio_of(name, ratio, group_ratio))
                write(name, _stored(name, value, stored))
    return [Path(output) for output in outputs.values()]


def outputs_of(
    ratio: float | None, output: str | None, ratios: str | None, prefix: str | None
) -> dict[float, Path]:
    """Return output directories by ratio, from the command line's two ways to name them.

    Args:
        ratio: With ``output``; None is 0.4.
        output: A directory.
        ratios: Several, separated by commas or spaces; with ``prefix``.
        prefix: What stands before the ratio in the directories' names.

    Raises:
        ValueError: Neither way or a mixture of both; a ratio is no number or given twice.
    """
    if output is not None and ratios is None and prefix is None:
        return {DEFAULT_RATIO if ratio is None else ratio: Path(output)}
    if ratios is None or prefix is None or output is not None or ratio is not None:
        raise ValueError("give either --output (and --ratio), or --ratios with --output_prefix")
    outputs: dict[float, Path] = {}
    for text in ratios.replace(",", " ").split():
        value = _number(text, "--ratios")
        if value in outputs:
            raise ValueError(f"--ratios: {value:g} is given twice")
        outputs[value] = Path(f"{prefix}{value:g}")
    if not outputs:
        raise ValueError("--ratios: no ratio is given")
    return outputs


def parse_group_ratios(texts: Sequence[str]) -> dict[str, float]:
    """Parse ``GROUP=RATIO`` as given on the command line.

    Raises:
        ValueError: One has another form, or a group is given twice; see also `check_ratios`.
    """
    found: dict[str, float] = {}
    for text in texts:
        group, equals, number = text.partition("=")
        if not equals:
            raise ValueError(f"--group_ratio: {text!r} is not of the form GROUP=RATIO")
        if group in found:
            raise ValueError(f"--group_ratio: {group} is given twice")
        found[group] = _number(number, f"--group_ratio {group}")
    check_ratios(DEFAULT_RATIO, found)
    return found


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number") from None


def _done(output: Path, record: Mapping[str, Any]) -> bool:
    """Tell whether an output holds this very merge already.

    Raises:
        ValueError: It holds a model that is not a merge, which is never overwritten.
    """
    if not model_dir_exists(output):
        return False
    if not (output / RECORD).is_file():
        raise ValueError(f"{output}: holds a model that is not a merge; choose another output")
    return read_json(output / RECORD) == dict(record)


def _hashes(tensors: Tensors) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in sorted(set(tensors.files.values()))}


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


def _check_configs(base: Path, tuned: Path) -> None:
    one, two = load_config(base), load_config(tuned)
    for key in SHAPE_KEYS:
        if one.get(key) != two.get(key):
            raise ValueError(
                f"config.json: {key} is {one.get(key)} in {base}, {two.get(key)} in {tuned}"
            )


def _check_names(
    base: Mapping[str, Any], tuned: Mapping[str, Any], base_at: str | Path, tuned_at: str | Path
) -> None:
    for have, lack, at in ((base, tuned, tuned_at), (tuned, base, base_at)):
        if missing := sorted(set(have) - set(lack) - {OUTPUT}):
            raise ValueError(f"{at}: {len(missing)} tensors are missing, first {missing[0]}")


def _check_shapes(
    name: str,
    base: tuple[int, ...],
    tuned: tuple[int, ...],
    base_at: str | Path,
    tuned_at: str | Path,
) -> None:
    if base != tuned:
        raise ValueError(f"{name}: shape {base} in {base_at}, {tuned} in {tuned_at}")


def _check_pair(
    name: str,
    base: torch.Tensor,
    tuned: torch.Tensor,
    base_at: str | Path,
    tuned_at: str | Path,
) -> None:
    _check_shapes(name, tuple(base.shape), tuple(tuned.shape), base_at, tuned_at)
    for tensor, at in ((base, base_at), (tuned, tuned_at)):
        if not tensor.is_floating_point():
            raise ValueError(f"{at}: {name} is {tensor.dtype}, not floating point")
        if not tensor.isfinite().all():
            raise ValueError(f"{at}: {name} holds NaN or infinite values")


def _stored(name: str, value: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Convert to the stored type; overflow of float16 is an error, not an infinity."""
    stored = value.to(dtype)
    if stored.dtype != value.dtype and not stored.isfinite().all():
        raise ValueError(f"{name}: values do not fit {dtype}; choose another --dtype")
    return stored
