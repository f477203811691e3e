"""Audio that had to be written to a file of its own, because ``wav.scp`` cannot refer to it."""

import contextlib
import os
from collections.abc import Callable

from espnet_plugin.corpora.sound import Audio, file_audio


def unpack(target: str, size: int, content: Callable[[], bytes]) -> Audio:
    """Write a file, unless it is there already (from a killed run); a kill leaves no half of it.

    Args:
        target: Where to; its folder is made.
        size: Bytes it has.
        content: Gives them.

    Returns:
        The recording.

    Raises:
        AudioError: It is empty, truncated, damaged or no audio.
    """
    target = os.path.abspath(target)
    there = -1
    with contextlib.suppress(FileNotFoundError):
        there = os.stat(target).st_size
    if there != size:
        data = content()
        folder = os.path.dirname(target)
        temporary = os.path.join(folder, f".{os.getpid()}.tmp")  # a process writes one at a time
        try:
            try:
                file = open(temporary, "wb")  # noqa: SIM115
            except FileNotFoundError:
                os.makedirs(folder, exist_ok=True)
                file = open(temporary, "wb")  # noqa: SIM115
            with file:
                file.write(data)
            os.replace(temporary, target)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise
    return file_audio(target)
