"""The batches that go into the model, and how an event names what is in them."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from espnet_plugin.monitor.ranks import Ranks

if TYPE_CHECKING:
    from espnet_plugin.monitor.watch import Watch

Batch = tuple[Sequence[str], dict[str, Any]]

SHOWN = 8  # utterances or lines named in a message; the file of events has all


class WatchedBatches:
    """An epoch's batches, made of what could be read; tells `Watch` when a step is over.

    Ranks go in step, and a resumed run skips as many batches as were done, so each batch drawn
    gives one, see `evened`.
    """

    def __init__(self, watch: "Watch", batches: Any) -> None:
        """Wrap what is left of an epoch's batches."""
        self.watch, self.batches = watch, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Batch]:
        watch = self.watch
        watch.meter.ask()
        batches: Iterable[Batch] = evened(self._counted(), watch.ranks)
        if watch.shares is not None:
            batches = watch.shares.draw(batches)
        for ids, batch in batches:
            watch.drawn()
            yield ids, batch
            watch.end_step()
            watch.meter.ask()

    def _counted(self) -> Iterator[Batch]:
        for ids, batch in self.batches:
            faults = getattr(ids, "faults", ())
            self.watch.note("train", faults)
            self.watch.count(len(ids), len(faults))
            yield ids, batch


def evened(batches: Iterable[Batch], ranks: Ranks) -> Iterator[Batch]:
    """Yield as many batches as there are, none of them empty; all ranks begin it together.

    The next batch lends its first utterance to one of which nothing could be read, the one before
    does at the end. A rank that could read nothing at all takes another rank's; where no rank could
    read anything, there is nothing.
    """
    count = 0

    def counted() -> Iterator[Batch]:
        nonlocal count
        for pair in batches:
            count += 1
            yield pair

    made = filled(counted())
    head = next(made, None)
    if any(lacks for (lacks,) in ranks.gather([float(head is None)])):
        lent = ranks.gather_objects(None if head is None else (head[0][:1], first(head[1])))
        spare = next((pair for pair in lent if pair is not None), None)
        if head is None and spare is not None:
            for _ in range(count):
                yield spare[0], dict(spare[1])
    if head is not None:
        yield head
        yield from made


def filled(batches: Iterable[Batch]) -> Iterator[Batch]:
    """Yield as many batches as there are, none of them empty (unless all are: then nothing)."""
    empty, spare = 0, None
    for ids, batch in batches:
        if not len(ids):
            empty += 1
            continue
        if empty or hasattr(ids, "faults"):
            spare = ids[:1], first(batch)
        for _ in range(empty):
            assert spare is not None
            yield spare[0], dict(spare[1])  # ESPnet adds to a batch
        empty = 0
        yield ids, batch
    if spare is not None:
        for _ in range(empty):
            yield spare[0], dict(spare[1])


def first(batch: dict[str, Any]) -> dict[str, Any]:
    """Return a batch's first utterance as a batch."""
    return {name: value[:1] if hasattr(value, "ndim") else value for name, value in batch.items()}


def facts(ids: Sequence[str]) -> dict[str, list[Any]]:
    """Return what a batch holds for the file of events: line numbers of text, or utterances."""
    lines = getattr(ids, "lines", None)
    if lines is not None:
        return {"lines": lines.tolist()}
    return {"utterances": list(ids)}


def name(held: dict[str, list[Any]], source: str) -> str:
    """Say what a batch holds.

    Args:
        held: As `facts` returns it; several batches' put together.
        source: Where it comes from.
    """
    kind, values = next(iter(held.items()))
    shown = ", ".join(map(str, values[:SHOWN]))
    more = f" and {len(values) - SHOWN} more (events.jsonl)" if len(values) > SHOWN else ""
    return f"{kind} {shown}{more} of {source}" if source else f"{kind} {shown}{more}"


def together(parts: Sequence[dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """Put what several batches hold together."""
    found: dict[str, list[Any]] = {}
    for part in parts:
        for kind, values in part.items():
            found.setdefault(kind, []).extend(values)
    return found
