"""Fixtures shared by all tests. Models are imported inside: many tests need no torch."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from espnet_plugin.quick_start import quick_start

quick_start()


def pytest_collection_finish() -> None:
    """Leave modules, torch and ESPnet, out of all garbage collections to come."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Collect once: at its end pytest does ten times, each a second in a process this large."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def log_level() -> Iterator[None]:
    """Commands set the level of the root logger for their process; here many share one."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(scope="session")
def tiny_whisper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny random Whisper directory for the whole session: read it, never write into it."""
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    return build_tiny_whisper(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_whisper_v3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with large-v3's 128 mel bins and 51 866 tokens."""
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    return build_tiny_whisper(
        tmp_path_factory.mktemp("models") / "tiny_v3", n_mels=128, vocab_size=51866
    )


@pytest.fixture
def make_whisper(tmp_path: Path) -> Callable[..., Path]:
    """Build tiny Whisper directories of one's own: ``make_whisper("name", seed=1)``."""

    from tests.fixtures.tiny_whisper import build_tiny_whisper

    def make(name: str = "model", **options: int) -> Path:
        return build_tiny_whisper(tmp_path / name, **options)

    return make
