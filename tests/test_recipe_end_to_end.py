"""The recipe's stages 3 to 13 on a tiny random Whisper, through the driver that users call."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.checkpoint import tensor_hashes
from espnet_plugin.groups import group_of
from tests.fixtures.pairs import sentence, write_pairs
from tests.fixtures.warm_python import warm_python

ROOT = Path(__file__).resolve().parents[1]
DRIVER = ROOT / "egs2_asyncswitch/asr1/asyncswitch.sh"
CONFIG = """
optim: adamw
optim_conf: {lr: 1.0e-3}
scheduler: freeze
max_epoch: 1
num_iters_per_epoch: 2
batch_type: sorted
batch_size: 4
batch_bins: 200
autocast: none
num_workers: 0
"""
SYSTEMS = ["init", "adapt_text", "adapt_align", "adapt_full", "merge_0.4"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("a recipe")
    for seed, (name, utterances) in enumerate((("tr", 8), ("va", 3), ("te_cs", 3), ("te_en", 2))):
        write_pairs(root / "data" / name, utterances, seed)
        (root / "data" / name / "utt2num_samples").unlink()  # stage 3 makes it
    (root / "data/text").mkdir()
    rng = np.random.default_rng(0)
    for name, lines in (("train", 30), ("valid", 5)):
        text = [json.dumps({"text": sentence(rng), "lang": "cs"}) + "\n" for _ in range(lines)]
        (root / f"data/text/{name}.jsonl").write_text("".join(text))
    (root / "conf.yaml").write_text(CONFIG)
    return root


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with warm_python(tmp_path_factory.mktemp("p")) as command:
        yield command


def drive(python: Path, work: Path, model: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [str(DRIVER), "--python", str(python), "--ngpu", "0", "--nj", "1"]
    command += ["--source", str(model), "--expdir", str(work / "exp")]
    command += ["--datadir", str(work / "data"), "--dumpdir", str(work / "dump")]
    command += ["--train_set", "tr", "--valid_set", "va", "--test_sets", "te_cs te_en"]
    command += ["--ablations", "", "--merge_ratios", "0.4"]
    command += ["--pad_train", "batch", "--pad_decode", "batch"]
    for stage in ("text", "align", "full"):
        command += [f"--train_{stage}_config", str(work / "conf.yaml")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [*command, *options], env=environment, capture_output=True, text=True, timeout=600
    )


def test_stages_3_to_13(python: Path, work: Path, tiny_whisper: Path) -> None:
    result = drive(python, work, tiny_whisper, "--stage", "3", "--stop_stage", "13")
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    exp = work / "exp"
    before = tensor_hashes(exp / "init")
    for system, moved in (("adapt_text", {"self_attn", "ffn", "output"}),):
        after = tensor_hashes(exp / system)
        assert {group_of(n) for n in before if after[n] != before[n]} == moved
    for system in SYSTEMS:
        for test_set in ("te_cs", "te_en"):
            decoded = exp / system / "decode_greedy" / test_set
            assert len((decoded / "text").read_text().splitlines()) == (3, 2)[test_set == "te_en"]
            assert (decoded / "score_wer" / "result.txt").is_file()
    results = json.loads((exp / "results.json").read_text())["results"]
    found = {(r["system"], r["test_set"]) for r in results}
    assert {(s, t) for s in SYSTEMS for t in ("te_cs", "te_en")} <= found
    for entry in results:
        assert {"wer", "cer", "wer_raw", "sub", "del", "ins", "n_ref", "n_utt", "rtfx"} <= set(
            entry
        )
        errors = entry["sub"] + entry["del"] + entry["ins"]
        assert entry["wer"] == pytest.approx(100 * errors / entry["n_ref"], abs=0.06)
    assert "te_cs" in (exp / "RESULTS.md").read_text()
    for picture in ("merge_sweep.png", "loss_adapt_text.png"):
        assert (exp / "images" / picture).read_bytes()[:4] == b"\x89PNG"

    # Every stage can be run again, and finds that there is nothing to do.
    weights = exp / "adapt_full" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    again = drive(python, work, tiny_whisper, "--stage", "8", "--stop_stage", "11")
    assert again.returncode == 0, again.stderr[-2000:]
    assert "finished earlier, skipped" in again.stdout
    assert weights.stat().st_mtime_ns == written
