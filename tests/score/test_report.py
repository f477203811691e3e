"""The report of a whole experiment, through its command line."""

import contextlib
import io
import json
import os
import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.bin import report as command
from espnet_plugin.checkpoint import sha256_file, write_json
from espnet_plugin.score import results
from espnet_plugin.score.metrics import Scored
from espnet_plugin.score.plots import plot_curve
from espnet_plugin.score.report import _escape, _noticed, _spread
from espnet_plugin.score.results import Report, write_results
from tests.score import experiment
from tests.score.conftest import needs_sclite

pytestmark = needs_sclite


def arguments(root: Path, *more: str) -> list[str]:
    return [
        *("--expdir", str(root / "exp"), "--dumpdir", str(root / "dump/raw")),
        *("--systems", " ".join(experiment.SYSTEMS)),
        *("--sets", "valid_paired test_cs test_en", "--valid-sets", "valid_paired"),
        *("--text_lines", str(root / "data/text/train.jsonl"), "--speech_sets", "train_paired"),
        *more,
    ]


@pytest.fixture(scope="module")
def reported(finished: Path) -> Path:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert command.main(arguments(finished, "--require")) == 0
    (finished / "printed").write_text(printed.getvalue())
    return finished / "exp"


def test_results_json_has_the_schema(reported: Path) -> None:
    content = json.loads((reported / "results.json").read_text())
    entries = content["results"]
    assert len(entries) == 3 * len(experiment.SYSTEMS)
    needed = "system test_set wer cer wer_raw sub del ins n_ref n_utt rtfx wer_ci95"
    for result in entries:
        assert not set(needed.split()) - result.keys()
        assert result["wer"] == pytest.approx(
            100 * (result["sub"] + result["del"] + result["ins"]) / result["n_ref"], abs=1e-3
        )
        assert result["wer_ci95"][0] <= result["wer"] <= result["wer_ci95"][1]
        assert result["n_text_only_words"] > 0
    on_cs = next(r for r in entries if (r["system"], r["test_set"]) == ("init", "test_cs"))
    assert set(on_cs["wer_by_language"]) == {"ms", "en"}
    assert set(on_cs["wer_by_cond"]) == {"clean", "noise"}
    assert on_cs["pier"] > 0
    text = reported / "init/decode_greedy/test_cs/text"
    assert on_cs["text_sha256"] == sha256_file(text)  # by which stage 15 knows what was scored
    meta = content["meta"]
    assert meta["normalizer_version"]
    assert meta["versions"]["espnet"]
    assert meta["configuration"]["sets"] == ["test_cs", "test_en"]
    model = reported / "adapt_full" / "model.safetensors"
    assert meta["models"]["adapt_full"][0]["sha256"] == sha256_file(model)
    assert meta["recommended_ratio"]["sets"] == ["valid_paired"]


def test_hashes_are_not_taken_twice_but_follow_the_file(tmp_path: Path, monkeypatch) -> None:
    experiment.build_training(tmp_path, ("init", "adapt_full"))
    expdir = tmp_path / "exp"
    report = Report({}, dict.fromkeys((("init", "x"), ("adapt_full", "x")), nothing()), {})
    write_results(report, expdir)
    read: list[str] = []
    monkeypatch.setattr(results, "sha256_file", lambda path: read.append(path.name) or "0" * 64)
    write_results(report, expdir)
    assert read == []
    (expdir / "adapt_full" / "model.safetensors").write_bytes(b"another")
    write_results(report, expdir)
    assert read == ["model.safetensors"]


def nothing() -> Scored:
    return Scored({"wer": 1.0}, np.zeros(1), np.ones(1), {})


def test_results_md(reported: Path) -> None:
    text = (reported / "RESULTS.md").read_text("utf-8")
    entries = json.loads((reported / "results.json").read_text())["results"]
    for result in entries:
        if result["test_set"] != "valid_paired":
            low, high = result["wer_ci95"]
            assert f"{result['wer']:.1f} [{low:.1f}, {high:.1f}]" in text
    for heading in ("How to read this", "Words met in text only", "Loss curves", "Examples"):
        assert f"## {heading}" in text
    assert "Recommended ratio" in text
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert all("valid_paired" not in line for line in tables)
    for picture in [line.split("](")[1].rstrip(")") for line in text.splitlines() if "![" in line]:
        assert (reported / picture).is_file()


def test_what_was_noticed_in_training_is_quoted(tmp_path: Path) -> None:
    events = [
        {"event": "spike", "text": "a spike"},
        {"event": "stuck", "found": "the loss has not moved", "advice": "a higher rate"},
    ]
    (tmp_path / "init").mkdir()
    lines = "".join(json.dumps(event) + "\n" for event in events)
    (tmp_path / "init" / "events.jsonl").write_text(lines)
    quoted = _noticed(tmp_path, ["init", "adapt_full"])
    assert "- `init`: the loss has not moved. What to try: a higher rate." in quoted
    assert quoted.count("- `") == 1
    assert _noticed(tmp_path, ["adapt_full"]) == ""


def test_pictures(reported: Path) -> None:
    names = {path.name for path in (reported / "images").iterdir()}
    assert {"merge_sweep.png", "loss_init.png", "loss_adapt_align.png"} <= names
    for name in names:
        head = (reported / "images" / name).read_bytes()[:24]
        assert head[:8] == b"\x89PNG\r\n\x1a\n"
        assert min(struct.unpack(">II", head[16:])) > 400


def test_beside_each_decoded_text(reported: Path) -> None:
    for kind in ("score_wer", "score_cer"):
        assert (reported / "init/decode_greedy/test_cs" / kind / "result.txt").is_file()


def test_requirements_are_printed_and_met(reported: Path) -> None:
    printed = (reported.parent / "printed").read_text()
    assert printed.count("PASS") == 9
    assert "FAIL" not in printed
    assert "order (not required)  test_cs: adapt_full" in printed


def test_unmet_requirements_fail(tmp_path: Path, capsys) -> None:
    experiment.build(tmp_path, ["init"], n_utt=3)
    experiment.build_words(tmp_path)
    assert command.main(arguments(tmp_path, "--systems", "init", "--require")) == 1
    printed = capsys.readouterr().out
    assert printed.count("FAIL") == 9
    assert "0 of 9 requirements passed" in printed


def test_a_model_or_set_that_has_changed_since_it_was_decoded(tmp_path: Path, capsys) -> None:
    experiment.build(tmp_path, ["init", "adapt_full", "merge_0.4"], 4)
    decoded = tmp_path / "exp/merge_0.4/decode_greedy"
    options = ["--expdir", str(tmp_path / "exp"), "--dumpdir", str(tmp_path / "dump/raw")]
    options += ["--systems", "merge_0.4", "--sets", "test_cs", "--valid_sets", "valid_paired"]
    options += ["--resamples", "10"]
    model, data = tmp_path / "exp/adapt_full/model.safetensors", tmp_path / "dump/raw/test_cs"
    (data.parent / "overlap.md").write_text("# x\n\n- train and test_cs share audio\n")
    for path in (model, data / "wav.scp"):
        path.write_bytes(bytes(8) + b"x")
        os.utime(path, (1, 1))
    for name in ("test_cs", "valid_paired"):
        write_json(decoded / name / "decode.json", {"rtfx": 1.0})
        os.utime(decoded / name / "decode.json", (2, 2))
    assert command.main(options) == 0
    assert "share\n\n- train and test_cs share audio" in (tmp_path / "exp/RESULTS.md").read_text()
    os.utime(data / "wav.scp", (3, 3))
    with pytest.raises(ValueError, match=r"test_cs: .*test_cs/wav.scp was written since; stage 12"):
        command.main(options)
    os.utime(decoded / "test_cs/decode.json", (9, 9))  # as stage 12 does where nothing changed
    os.utime(model, (4, 4))  # merge_0.4 is merged from it as it is decoded
    capsys.readouterr()
    assert command.main(options) == 0
    assert "valid_paired: " in capsys.readouterr().out
    os.utime(model, (10, 10))
    with pytest.raises(ValueError, match=r"adapt_full/model.safetensors was written since"):
        command.main(options)


def test_systems_that_were_decoded_otherwise_are_named(tmp_path: Path, capsys) -> None:
    systems = ["init", "adapt_full", "merge_0.4"]
    experiment.build(tmp_path, systems, 4)
    for system in systems:
        options = {"pad": "30s" if system == "init" else "batch", "beam_size": 1}
        record = tmp_path / "exp" / system / "decode_greedy/test_cs/decode.json"
        write_json(record, {"rtfx": 1.0, "options": options})
    arguments = ["--expdir", str(tmp_path / "exp"), "--dumpdir", str(tmp_path / "dump/raw")]
    arguments += ["--systems", " ".join(systems), "--sets", "test_cs", "--resamples", "10"]
    assert command.main(arguments) == 0
    said = "init: pad 30s, where most have batch (test_cs)"
    assert f"decoded otherwise: {said}\n" in capsys.readouterr().out
    assert f"- {said}\n" in (tmp_path / "exp/RESULTS.md").read_text()


def test_a_missing_decoding_names_its_stage(tmp_path: Path) -> None:
    experiment.build(tmp_path, ["init"], n_utt=2)
    experiment.build_words(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"whisper_base/.*stage 12 \(decode\)"):
        command.main(arguments(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"test_xx: no such directory; stage 3"):
        command.main(arguments(tmp_path, "--sets", "test_xx"))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--systems", ""], "--systems and --sets are needed"),
        (["--sets", "valid_paired"], "--systems and --sets are needed"),
        (["--speech_sets", ""], "belong together"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, more: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        command.main(arguments(tmp_path, *more))


def test_no_matplotlib_names_the_extra(tmp_path: Path, monkeypatch) -> None:
    experiment.build_training(tmp_path, ("init",))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"pip install 'espnet-asyncswitch\[train\]'"):
        plot_curve(tmp_path / "exp/init/curve.csv", tmp_path / "x.png", "init")


def test_hypotheses_cannot_write_markdown() -> None:
    assert _escape("a | <b> *c* `d`") == "a \\| \\<b\\> \\*c\\* \\`d\\`"


@pytest.mark.parametrize("size", [0, 1, 3, 6, 100])
def test_examples_are_spread_over_the_set(size: int) -> None:
    chosen = list(_spread([str(i) for i in range(size)]))
    assert len(chosen) == len(set(chosen)) == min(6, size)
    assert chosen == sorted(chosen, key=int)
