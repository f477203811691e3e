"""What lets ESPnet start in seconds less; the results are the same.

ESPnet decorates 568 functions with typeguard's `typechecked`, which parses and compiles the whole
module anew for each: half of the seconds that importing ESPnet takes. A run calls few of them, so
each is prepared at its first call. And ESPnet writes and reads `config.yaml`, with its 52 000
tokens, by the part of PyYAML that is written in Python; libyaml, where PyYAML has it, does in 0.3 s
what takes that 3 s.
"""

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

import typeguard
import yaml

_eager = typeguard.typechecked
_lock = threading.RLock()


def quick_start() -> None:
    """Prepare this process; to be called before the first import of ESPnet, once or more often."""
    typeguard.typechecked = _typechecked  # type: ignore[assignment]
    if yaml.__with_libyaml__:
        yaml.SafeLoader, yaml.SafeDumper = yaml.CSafeLoader, yaml.CSafeDumper  # type: ignore


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
