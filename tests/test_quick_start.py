"""What starts ESPnet sooner changes no result: checks at the first call, YAML by libyaml."""

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typeguard
import yaml

from espnet_plugin import quick_start

MODULE = """
from abc import ABC, abstractmethod
from typeguard import typechecked

calls = []

@typechecked
def double(number: int, times: int = 2) -> int:
    "Twice a number."
    return number * times

@typechecked
def liar() -> int:
    return "two"

@typechecked
def count(end: int):
    yield from range(end)

class Base(ABC):
    @abstractmethod
    @typechecked
    def needed(self, x: int) -> None: ...

    def name(self) -> str:
        return "base"

class Child(Base):
    @typechecked
    def __init__(self, size: int = 3):
        super().__init__()
        self.size = size

    @typechecked
    def needed(self, x: int) -> None:
        calls.append(x)

    @typechecked
    def name(self) -> str:
        return super().name() + " child"

    @classmethod
    @typechecked
    def make(cls, size: int) -> "Child":
        return cls(size)

    @staticmethod
    @typechecked
    def half(x: float) -> float:
        return x / 2
"""


@pytest.fixture(params=["at import", "at the first call"])
def module(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[object]:
    monkeypatch.setattr(typeguard, "typechecked", quick_start._eager)
    if request.param == "at the first call":
        quick_start.quick_start()
    name = "checked_" + request.param.replace(" ", "_")
    (tmp_path / f"{name}.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield __import__(name)
    del sys.modules[name]


def test_both_ways_check_the_same(module) -> None:
    assert module.double(2) == 4 and module.double(2, times=3) == 6
    for wrong in (
        lambda: module.double("2"),
        lambda: module.double(2, times="3"),
        module.liar,
        lambda: module.Child("3"),
        lambda: module.Child().needed(1.5),
        lambda: module.Child.make("3"),
        lambda: module.Child.half("1"),
    ):
        for _ in range(2):
            with pytest.raises(typeguard.TypeCheckError):
                wrong()
    child = module.Child.make(4)
    child.needed(5)
    assert (child.size, child.name(), module.calls, child.half(1.0)) == (4, "base child", [5], 0.5)
    assert list(module.count(3)) == [0, 1, 2]
    with pytest.raises(TypeError, match="abstract"):
        module.Base()


def test_what_espnet_reads_of_functions_is_kept(module) -> None:
    assert str(inspect.signature(module.double)) == "(number: int, times: int = 2) -> int"
    assert str(inspect.signature(module.Child)) == "(size: int = 3)"
    assert module.double.__doc__ == "Twice a number."
    assert module.Child.name.__qualname__ == "Child.name"


def test_configurations_are_written_and_read_the_same() -> None:
    from espnet2.utils.yaml_no_alias_safe_dump import yaml_no_alias_safe_dump as dump

    shared = {"lr": 1e-4, "none": None}
    tokens = [
        "!",
        "Ġsaya",
        "'",
        "#",
        "- x",
        "é",
        "你",
        "<|0.02|>",
        "no",
        "1",
        "~",
        "",
        "\\",
        "a: b",
    ]
    conf = {"token_list": tokens, "one": shared, "two": shared, "long": "kata " * 40}
    text = dump(conf, indent=4, sort_keys=False)
    assert text == yaml.dump(conf, Dumper=Aliasless, indent=4, sort_keys=False, allow_unicode=True)
    assert yaml.safe_load(text) == yaml.load(text, yaml.loader.SafeLoader) == conf


class Aliasless(yaml.dumper.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True
