"""Which share of the tuned model each tensor gets: one ratio, and those of groups and layers."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from espnet_plugin.cli import nearest
from espnet_plugin.groups import GROUPS, group_of, layer_of, select

DEFAULT_RATIO = 0.4
# Groups that lie in the decoder's layers.
DECODER_GROUPS = ("self_attn", "cross_attn", "ffn")
LAYERED = ("encoder", "decoder", *DECODER_GROUPS)
LAYER_FORM = "WHERE.LAYER or WHERE.FIRST-LAST, WHERE one of " + ", ".join(LAYERED)


def check_ratios(
    ratio: float,
    group_ratio: Mapping[str, float] | None = None,
    layer_ratio: Mapping[str, float] | None = None,
) -> None:
    """Check a ratio, the ratios of groups and those of layers.

    Whether the layers exist is checked with the names of a model: `ratios_by_name`.

    Raises:
        ValueError: A ratio lies outside 0..1 or is no number; a group does not exist; layers are
            written in another way.
    """
    for group in group_ratio or {}:
        if group not in GROUPS:
            raise ValueError(
                f"unknown group {group!r}{nearest(group, GROUPS)}: groups are {', '.join(GROUPS)}"
            )
    for layers in layer_ratio or {}:
        _parse_layers(layers)
    given = [("ratio", ratio), *(group_ratio or {}).items(), *(layer_ratio or {}).items()]
    for where, value in given:
        if not 0.0 <= value <= 1.0:  # false for NaN too
            raise ValueError(f"{where}: ratio {value} lies outside 0..1 (0 is base, 1 is tuned)")


def ratios_by_name(
    names: Iterable[str],
    group_ratio: Mapping[str, float] | None = None,
    layer_ratio: Mapping[str, float] | None = None,
) -> dict[str, float | None]:
    """Find the ratio of each tensor; the narrower rule wins, whatever the order they are given in.

    From wide to narrow: the common ratio; a group (`ffn`); layers of the encoder or of the whole
    decoder (`decoder.0-5`); layers of one of the decoder's groups (`ffn.3`).

    Args:
        names: Tensor names of a Whisper model.
        group_ratio: Ratio by group, see `espnet_plugin.groups`.
        layer_ratio: Ratio by layers, counted from 0, both ends included.

    Returns:
        By name, the ratio of the rule that applies; None where the common one does.

    Raises:
        ValueError: A name is not one of Whisper's; layers do not exist, or two equally narrow
            rules name the same layer.
    """
    names = list(names)
    found: dict[str, float | None] = {n: (group_ratio or {}).get(group_of(n)) for n in names}
    for narrow in (False, True):
        owner: dict[str, str] = {}
        for layers, ratio in (layer_ratio or {}).items():
            where, span = _parse_layers(layers)
            if (where in DECODER_GROUPS) != narrow:
                continue
            groups = DECODER_GROUPS if where == "decoder" else (where,)
            for name in _chosen(layers, [f"{group}.{span}" for group in groups], names):
                if name in owner:
                    raise ValueError(
                        f"layer ratios: {owner[name]} and {layers} both name layer "
                        f"{layer_of(name)} ({name})"
                    )
                owner[name], found[name] = layers, ratio
    return found


def _parse_layers(layers: str) -> tuple[str, str]:
    match = re.fullmatch(r"(\w+)\.(\d+(?:-\d+)?)", layers)
    if match is None or match[1] not in LAYERED:
        hint = nearest(layers.partition(".")[0], LAYERED) if match else ""
        raise ValueError(f"layers {layers!r}{hint}: write {LAYER_FORM}")
    return match[1], match[2]


def _chosen(layers: str, selectors: Sequence[str], names: Sequence[str]) -> list[str]:
    try:
        return sorted(select(selectors, names))
    except ValueError as error:
        raise ValueError(f"layer ratio {layers}: {error}") from None


def parse_ratios(texts: Sequence[str], option: str) -> dict[str, float]:
    """Parse ``GROUP=RATIO`` or ``LAYERS=RATIO`` as given on the command line.

    Args:
        texts: What was given.
        option: The option's name: ``--group_ratio`` or ``--layer_ratio``.

    Raises:
        ValueError: One has another form, or is given twice; see also `check_ratios`.
    """
    found: dict[str, float] = {}
    for text in texts:
        where, equals, number = text.partition("=")
        if not equals:
            form = "LAYERS" if option == "--layer_ratio" else "GROUP"
            raise ValueError(f"{option}: {text!r} is not of the form {form}=RATIO")
        if where in found:
            raise ValueError(f"{option}: {where} is given twice")
        found[where] = _number(number, f"{option} {where}")
    if option == "--layer_ratio":
        check_ratios(DEFAULT_RATIO, layer_ratio=found)
    else:
        check_ratios(DEFAULT_RATIO, found)
    return found


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


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{where}: {text!r} is not a number") from None
