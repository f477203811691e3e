"""One pass over two models: pieces are read, merged at every ratio, written where they belong."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from espnet_plugin.checkpoint import (
    INDEX,
    WEIGHTS,
    Writer,
    encode_header,
    for_each,
    fsync_dir,
    model_hash,
    write_json,
)
from espnet_plugin.cli import progress
from espnet_plugin.merge.pair import Pair


@dataclass(frozen=True)
class Target:
    """The weights of one output, while they are written.

    Attributes:
        directory: Where they are written.
        shards: Names of tensors by name of file.
        starts: File and first byte of each tensor.
    """

    directory: Path
    shards: Mapping[str, Sequence[str]]
    starts: Mapping[str, tuple[Path, int]]

    @classmethod
    def make(cls, directory: Path, shards: Mapping[str, Sequence[str]], pair: Pair) -> "Target":
        """Make the files: headers, and room for the tensors."""
        found = {}
        for file, names in shards.items():
            head, starts, size = encode_header({name: pair.spec(name) for name in names})
            path = directory / file
            with open(path, "wb") as opened:
                opened.write(head)
                opened.truncate(size)
            found.update({name: (path, start) for name, start in starts.items()})
        return cls(directory, shards, found)

    def finish(self) -> None:
        """Wait until everything is on the disk, and write the index of shards."""
        for file in self.shards:
            with open(self.directory / file, "r+b") as opened:
                os.fsync(opened.fileno())
        if list(self.shards) != [WEIGHTS]:
            total = sum((self.directory / f).stat().st_size for f in self.shards)
            places = {name: file for file, names in self.shards.items() for name in names}
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(places.items()))}
            write_json(self.directory / INDEX, index)
        fsync_dir(self.directory)


def stream(
    pair: Pair,
    ratios: Sequence[float],
    targets: Sequence[Target],
    threads: int,
    hashes: bool,
    show_progress: bool,
) -> tuple[str, str] | None:
    """Merge all tensors into files, in the order in which they lie in the base's.

    Args:
        pair: The models.
        ratios: Common ratios.
        targets: Where each merge is written.
        threads: How many.
        hashes: Hash the inputs as they are read.
        show_progress: Report on stderr.

    Returns:
        With hashes, those of the base and of the tuned model.

    Raises:
        ValueError: A value is NaN or infinite, or does not fit the stored type (the tensor is
            named); the two models are the same.
    """
    total = sum(place.nbytes for places in pair.places.values() for place in places)
    with progress(
        total, "merging", "B", unit_scale=True, unit_divisor=1000, disable=not show_progress
    ) as bar:

        @contextmanager
        def worker() -> Iterator[Callable[[str], tuple[str, str]]]:
            with pair.merger(hashes) as merger, Writer() as writer:

                def work(name: str) -> tuple[str, str]:
                    for first, merged in merger.pieces(name, ratios):
                        for target, values in zip(targets, merged, strict=True):
                            path, start = target.starts[name]
                            at = start + first * values.itemsize
                            writer.write(path, at, memoryview(values).cast("B"))
                    bar.update(sum(place.nbytes for place in pair.places[name]))
                    return merger.digests

                yield work

        found = for_each(pair.in_order, worker, threads)
    pair.check_differed()
    if not hashes:
        return None
    one, two = ({name: digests[side] for name, digests in found.items()} for side in (0, 1))
    return model_hash(one), model_hash(two)
