"""What a training is stopped by, and its best epoch chosen by, exists: said before it, not after.

ESPnet looks for the name at the end of the first epoch to stop by it, and to choose by it passes
over what it does not find: such a run would train to its end, and have no best epoch.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence

from espnet_plugin.cli import nearest

MODES = ("min", "max")
MEASURED = {"train": ("loss", "acc", "ppl"), "valid": ("loss", "acc", "ppl", "wer")}
FORM = "a criterion is written 'valid loss min'"


def check(criteria: Iterable[Sequence[str]], languages: Iterable[str]) -> None:
    """Check the names of criteria.

    Args:
        criteria: ESPnet's, such as `("valid", "loss", "min")`.
        languages: Of the data; in validation each has its own `loss_cs`, ...

    Raises:
        ValueError: If nothing is called so; says what there is.
    """
    languages = list(languages)
    for criterion in criteria:
        if len(criterion) != 3:
            raise ValueError(f"{FORM}; got '{' '.join(criterion)}'")
        phase, key, mode = criterion
        known = [*MEASURED.get(phase, ())]
        if phase == "valid":
            known += [f"{name}_{language}" for name in known for language in languages]
        wanted = (("set", phase, [*MEASURED]), ("measure", key, known), ("mode", mode, MODES))
        for what, given, names in wanted:
            if given not in names:
                raise ValueError(
                    f"the criterion '{' '.join(criterion)}': there is no {what} '{given}'"
                    f"{nearest(given, names)}; there are {', '.join(names)}"
                )


def check_measured(criteria: Iterable[Sequence[str]], measured: Collection[str]) -> None:
    """Check that the first validation measured what criteria name.

    Args:
        criteria: As in `check`.
        measured: Columns of the curve, `valid_loss` and so on.

    Raises:
        ValueError: If one is missing, as `valid loss_en` where no validation is English.
    """
    for phase, key, _ in criteria:
        if phase == "valid" and f"valid_{key}" not in measured:
            raise ValueError(
                f"the criterion '{phase} {key}': the validation set has nothing to measure it on, "
                f"or --valid_wer_utts decodes nothing of that language"
            )


def check_resumed(
    criteria: Iterable[Sequence[str]], stats: Mapping[int, Mapping[str, Mapping[str, float]]]
) -> None:
    """Check that the epochs before an interruption were measured by what criteria name.

    ESPnet compares all epochs, and would end in a KeyError after another one.

    Args:
        criteria: As in `check`.
        stats: ESPnet's, by epoch, set and measure.

    Raises:
        ValueError: If one was not; says which.
    """
    for phase, key, _ in criteria:
        if missing := [e for e, sets in stats.items() if key not in sets.get(phase, {})]:
            raise ValueError(
                f"the criterion '{phase} {key}': epoch {missing[0]} of this run was not measured "
                "so; go on with the criteria that it was begun with, or take a new output directory"
            )
