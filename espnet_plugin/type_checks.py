"""ESPnet's run-time type checks, prepared at a function's first call instead of at import.

ESPnet decorates 568 functions with typeguard's `typechecked`, which parses and compiles the whole
module anew for each: half of the seconds that importing ESPnet takes. A run calls few of them.
"""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import typeguard

_eager = typeguard.typechecked
_lock = threading.RLock()


def at_first_call() -> None:
    """Let functions that are decorated from now on be checked as before, but prepared when called.

    To be called before the first import of ESPnet. Calling it again changes nothing.
    """
    typeguard.typechecked = _typechecked  # type: ignore[assignment]


def _typechecked(target: Any = None, **options: Any) -> Any:
    # A function within another is checked against names of the outer one, known now only.
    if not inspect.isfunction(target) or options or "<locals>" in target.__qualname__:
        return _eager(target, **options)
    checked: Callable[..., Any] | None = None

    @functools.wraps(target)
    def checked_when_called(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            with _lock:
                checked = _eager(target)
        return checked(*args, **kwargs)

    return checked_when_called
