"""Options of watching: mistakes and missing loggers are told before training."""

import argparse
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from espnet_plugin.monitor import options


def parsed(*given: str, **loggers: bool) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_options(parser.add_argument)
    args = parser.parse_args(given)
    for name, _, _ in options.NEEDS:
        setattr(args, name, loggers.get(name, False))
    return args


def test_the_defaults_are_accepted_and_are_the_documented_ones() -> None:
    args = parsed()
    options.check(args)
    assert (args.on_nonfinite, args.on_spike, args.max_bad_share) == ("skip", "warn", 0.01)


@pytest.mark.parametrize(
    "given",
    ["spike_factor 0", "spike_window 9", "max_skipped -1", "max_bad_share 1.5", "peak_tflops 0"],
)
def test_values_out_of_range_are_named(given: str) -> None:
    name, value = given.split()
    with pytest.raises(ValueError, match=f"--{name} is .*, got {value}"):
        options.check(parsed(f"--{name}", value))


def test_unknown_actions_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed("--on_spike", "ignore")
    assert "invalid choice: 'ignore'" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "module", "extra"), options.NEEDS)
def test_a_missing_logger_is_told_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, option: str, module: str, extra: str
) -> None:
    def find(name: str) -> Any:
        return None if name == module else object()

    monkeypatch.setattr(options.importlib.util, "find_spec", find)
    message = rf"--{option} needs {module}.*espnet-asyncswitch\[{extra}\]"
    with pytest.raises(ValueError, match=message):
        options.check(parsed(**{option: True}))
    options.check(parsed())


def test_wandb_without_a_login_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = SimpleNamespace(api=SimpleNamespace(api_key=None))
    monkeypatch.setitem(sys.modules, "wandb", fake)  # type: ignore[arg-type]
    monkeypatch.setattr(options.importlib.util, "find_spec", lambda name: object())
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(ValueError, match="not logged in.*WANDB_MODE=offline"):
        options.check(parsed(use_wandb=True))
    monkeypatch.setenv("WANDB_MODE", "offline")
    options.check(parsed(use_wandb=True))
    fake.api.api_key = "key"
    monkeypatch.delenv("WANDB_MODE")
    options.check(parsed(use_wandb=True))
