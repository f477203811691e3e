"""What the scoring tests share."""

from pathlib import Path

import pytest

from espnet_plugin.score.sclite import find_sclite
from tests.score import experiment


def has_sclite() -> bool:
    try:
        find_sclite()
    except FileNotFoundError:
        return False
    return True


needs_sclite = pytest.mark.skipif(not has_sclite(), reason="sclite (package sctk) is not installed")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A scored miniature experiment in a directory with a space in its name."""
    root = tmp_path_factory.mktemp("an experiment")
    experiment.build(root)
    experiment.build_training(root, ("init", "adapt_text", "adapt_align", "adapt_full"))
    experiment.build_words(root)
    return root
