import shutil
from pathlib import Path

import pytest

from espnet_plugin.checkpoint import sha256_file
from espnet_plugin.text.corpus import plan as plan_module
from tests.text.corpora import plan_of


def test_rules_of_the_style_are_part_of_what_a_store_is_made_from(
    tmp_path: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made_from(style: str) -> dict:
        return plan_of(tmp_path, tiny_whisper, text_style=style).made_from([], False)

    before = made_from("spoken"), made_from("as_is")
    monkeypatch.setattr(plan_module, "NORMALIZER_VERSION", "other")
    assert made_from("spoken") != before[0]
    assert made_from("as_is") == before[1]


def test_a_worker_that_outlives_a_run_sees_a_changed_tokenizer(
    tmp_path: Path, tiny_whisper: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_whisper, model)
    plan = plan_of(tmp_path, model)
    before = plan.tools
    assert plan.tools is before
    with open(model / "tokenizer.json", "a") as file:
        file.write("\n")
    assert plan.tools.tokenizer_sha256 == sha256_file(model / "tokenizer.json")
