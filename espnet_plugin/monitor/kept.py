"""What the watch keeps for a run that is resumed: its state at the places of checkpoints."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from espnet_plugin.checkpoint import read_json, write_json
from espnet_plugin.training.saving import LEDGER

STATE = "watch.json"
LATE = 4  # latest places whose state is kept, besides those of the checkpoints that are there


def read_states(directory: Path, say: Callable[[str, str], None]) -> dict[str, Any]:
    """Read what is kept, by place (`epoch:batches`).

    Args:
        directory: Output directory of the run.
        say: Told, as kind and text, if the file cannot be read; it is then removed.
    """
    path = directory / STATE
    try:
        return dict(read_json(path)) if path.is_file() else {}
    except (TypeError, ValueError) as error:
        path.unlink()
        say("state_lost", f"{error}: the level of the loss and the counts of this run begin anew")
        return {}


def write_state(
    directory: Path, place: str, state: dict[str, Any], say: Callable[[str, str], None]
) -> None:
    """Keep the state at a place, and forget those that no checkpoint needs."""
    states = read_states(directory, say)
    states.pop(place, None)
    states[place] = state
    ledger = directory / LEDGER  # with --checkpoint_seconds they may be of long ago
    entries = read_json(ledger) if ledger.is_file() else []
    needed = {"{}:{}".format(*entry["position"]) for entry in entries} | set(list(states)[-LATE:])
    write_json(directory / STATE, {at: kept for at, kept in states.items() if at in needed})
