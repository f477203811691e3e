"""Folders inside a zip, walked as `pathlib.Path` walks those on the disk."""

import bisect
from collections.abc import Iterator, Sequence
from pathlib import Path

from espnet_plugin.corpora.archives import open_files


class InZip:
    """A folder or file in a zip; `str` gives a path that `open_files` takes.

    Args:
        archive: The zip.
        names: All of its members, sorted.
        place: Its own place in there; empty for the zip's top.
    """

    def __init__(self, archive: str, names: Sequence[str], place: str = "") -> None:
        self._archive, self._names, self._place = archive, names, place
        self.name = place.rpartition("/")[2] or Path(archive).name

    def __str__(self) -> str:
        return f"{self._archive}/{self._place}" if self._place else self._archive

    def __lt__(self, other: "InZip") -> bool:
        return self.name < other.name

    @property
    def suffix(self) -> str:
        """What the name ends in, from the last dot."""
        return Path(self.name).suffix

    def is_dir(self) -> bool:
        """Tell whether anything lies below it."""
        if not self._place:
            return True
        first = bisect.bisect_left(self._names, f"{self._place}/")
        return first < len(self._names) and self._names[first].startswith(f"{self._place}/")

    def iterdir(self) -> Iterator["InZip"]:
        """Yield what lies directly in it, with a few steps for each folder however full it is."""
        below = f"{self._place}/" if self._place else ""
        at = bisect.bisect_left(self._names, below)
        found = set()
        while at < len(self._names) and self._names[at].startswith(below):
            child, slash, _ = self._names[at][len(below) :].partition("/")
            if child not in found:
                found.add(child)
                yield InZip(self._archive, self._names, below + child)
            # "0" follows "/" in the order of characters
            at = bisect.bisect_left(self._names, f"{below}{child}0", at) if slash else at + 1


Place = Path | InZip


def zip_tree(path: str | Path) -> InZip:
    """Return the top of a zip.

    Raises:
        ArchiveError: It is damaged.
        ValueError: A member's name would lead outside.
    """
    files = open_files(str(path), "")
    return InZip(files.path, files.names())
