"""What all command lines share: option spelling, short errors, progress; needs no torch, no ESPnet.

A command line is ``parser(...)`` for its options and ``run(main)`` where it is run as a script.
"""

import argparse
import difflib
import errno
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from espnet_plugin.room import FULL

if TYPE_CHECKING:
    from tqdm import tqdm

DEBUG_VARIABLE = "ASYNCSWITCH_DEBUG"
LOG_INTERVAL = 10.0  # seconds between two progress lines where the output is not a terminal
USER_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    PermissionError,
    NotADirectoryError,
    IsADirectoryError,
)
DISK_ERRORS = (*FULL, errno.EROFS)  # full, or not to be written to


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name a mistyped one resembles.

    Args:
        name: What was given.
        known: What exists.

    Returns:
        ``" (did you mean X?)"`` to append to a message, or an empty string where nothing is close.
    """
    match = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {match[0]}?)" if match else ""


class _Formatter(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """Keep the description's line breaks, and show the defaults that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default is None or action.default is False or action.required:
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """An argument parser that takes ``--a-b`` for ``--a_b``, and suggests the nearest option."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        # here and not in `parser`, so that subcommands have it too
        kwargs.setdefault("formatter_class", _Formatter)
        super().__init__(*args, **kwargs | {"allow_abbrev": False})

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse as argparse does after respelling the options; an unknown option is an error."""
        given = list(sys.argv[1:] if args is None else args)
        return super().parse_known_args(self._respell(given), namespace)

    def _respell(self, args: list[str]) -> list[str]:
        """Give each option its declared spelling, up to ``--`` or a subcommand (it has its own)."""
        known = {option.replace("-", "_"): option for option in self._option_string_actions}
        commands: set[str] = set()
        for action in self._actions:
            if action.nargs == argparse.REMAINDER:
                return args  # what follows belongs to another program
            if isinstance(action, argparse._SubParsersAction):
                commands.update(action.choices)
        respelled: list[str] = []
        for position, arg in enumerate(args):
            if arg == "--" or arg in commands:
                return respelled + args[position:]
            name, equals, value = arg.partition("=")
            # argparse takes an argument with a space in its name for a value, so it is one here too
            if name.startswith("--") and " " not in name:
                declared = known.get(name.replace("-", "_"))
                if declared is None:
                    options = [option for option in known.values() if option.startswith("--")]
                    hint = nearest("--" + name[2:].replace("-", "_"), options)
                    self.error(f"unknown option {name}{hint}")
                arg = declared + equals + value
            respelled.append(arg)
        return respelled


def parser(description: str | None, **kwargs: Any) -> Parser:
    """Make the argument parser of a command line.

    Declare options with underscores (``--stop_stage``); ``--stop-stage`` is then accepted too.
    Options cannot be abbreviated. Subcommands (``add_subparsers``) get the same treatment.

    Args:
        description: What the command does; a module passes its ``__doc__``.
        **kwargs: Passed to ``argparse.ArgumentParser``.

    Returns:
        The parser.
    """
    return Parser(description=description, **kwargs)


def describe(error: BaseException) -> str:
    """Put an exception of the user's making in one message, notes (``add_note``) included."""
    if isinstance(error, OSError) and error.filename is not None and error.strerror:
        message = f"{os.fsdecode(error.filename)}: {error.strerror}"
    elif isinstance(error, UnicodeDecodeError):
        found = error.object[error.start : error.end].hex(" ")
        message = f"text is not {error.encoding} at byte {error.start} ({found}): {error.reason}"
    else:
        message = str(error) or type(error).__name__
    return "\n".join([message, *getattr(error, "__notes__", [])])


def run(main: Callable[[], int | None]) -> int:
    """Run a command line's ``main`` and turn the user's mistakes into one message.

    ValueError and the errors of missing or forbidden files, or of a full disk, become
    ``error: message`` on stderr and exit code 2; with ``ASYNCSWITCH_DEBUG`` set the traceback is
    shown as well. Anything else is a defect and keeps its traceback.

    Args:
        main: Called without arguments; its return value is the exit code (None is 0).

    Returns:
        0.

    Raises:
        SystemExit: With every other exit code, so that ``run(main)`` alone suffices.
    """
    try:
        code = main() or 0
    except (*USER_ERRORS, OSError) as error:
        if isinstance(error, OSError) and not isinstance(error, USER_ERRORS):
            if error.errno not in DISK_ERRORS:
                raise
            error.add_note("make room or mend that, and run the same command again")
        if os.environ.get(DEBUG_VARIABLE):
            traceback.print_exc()
        print(f"error: {describe(error)}", file=sys.stderr)
        if not os.environ.get(DEBUG_VARIABLE):
            print(f"({DEBUG_VARIABLE}=1 shows where)", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        code = 130
    if code:
        raise SystemExit(code)
    return 0


class _Lines:
    """A stream in which tqdm's updates become lines, for logs."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        text = text.strip("\r\n")
        return self._stream.write(text.rstrip() + "\n") if text.strip() else 0

    def flush(self) -> None:
        self._stream.flush()


def progress(
    total: int | None, label: str, unit: str = "it", stream: TextIO | None = None, **kwargs: Any
) -> "tqdm[Any]":
    """Report progress, rate and time left: an updating line on a terminal, else one every 10 s.

    Args:
        total: How many units there are; None where unknown.
        label: What is being done.
        unit: What is counted, e.g. ``"utt"``.
        stream: Where to write; default stderr.
        **kwargs: Passed to tqdm (``initial=`` after a resume).

    Returns:
        A tqdm bar: a context manager with ``update(n)`` and ``set_postfix_str(text)``.
    """
    from tqdm import tqdm

    stream = sys.stderr if stream is None else stream
    options: dict[str, Any] = {"total": total, "desc": label, "unit": " " + unit, "file": stream}
    if stream.isatty():
        options["dynamic_ncols"] = True
    else:
        options |= {"file": _Lines(stream), "ascii": True, "ncols": 100}
        options |= {"mininterval": LOG_INTERVAL, "maxinterval": LOG_INTERVAL}
    return tqdm(**(options | kwargs))
