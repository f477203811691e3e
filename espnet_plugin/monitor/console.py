"""What stands on stdout is not logged to the same console as well; log files get it.

A message that people should see goes to stdout, beside the progress bar, and to the log. Started
by `espnet_plugin.bin.asr_train`, the log is on the console too.
"""

import logging
import sys

SHOWN = {"shown": True}  # `extra` of a log record whose message is on stdout


def drop_shown() -> None:
    """Let the log's handlers on the console leave out records with `extra=SHOWN`."""
    for handler in logging.root.handlers:
        stream = getattr(handler, "stream", None)
        if stream is not None and stream in (sys.stdout, sys.stderr):
            handler.addFilter(_is_not_shown)


def _is_not_shown(record: logging.LogRecord) -> bool:
    return not getattr(record, "shown", False)
