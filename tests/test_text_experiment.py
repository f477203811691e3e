"""The experiment of stage 1 on a subset: drawing lines, the length of the run, conclusions."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from espnet_plugin.text_experiment import plan, report, subset
from espnet_plugin.text_store import TextStore, finish_store, write_shard
from tests.fixtures.recipe import ROOT, Recipe

CURVE = """epoch,updates,train_loss,valid_loss,valid_acc,seconds,valid_ppl,valid_ppl_cs,valid_ppl_en
0,0,,3.5,0.1,1.0,33.1,60.0,20.0
1,40,3.0,2.5,0.3,9.0,12.2,11.5,21.0
2,80,2.4,2.6,0.3,17.0,13.5,12.0,25.0
"""


def store(folder: Path, sizes: tuple[int, ...] = (30, 20)) -> Path:
    """A store of several shards; a line's tokens tell which line it is."""
    shards, first = [], 0
    for index, size in enumerate(sizes):
        lengths = 1 + np.arange(first, first + size) % 7
        tokens = np.repeat(np.arange(first, first + size), lengths)
        shards.append(write_shard(folder, index, tokens, lengths, np.arange(size) % 2))
        first += size
    finish_store(folder, shards, ["cs", "en"], "abc", "spoken")
    return folder


def test_a_subset_holds_lines_as_they_are(tmp_path: Path) -> None:
    whole = TextStore(store(tmp_path / "whole"))
    made = subset(tmp_path / "whole", tmp_path / "some", 18, seed=3)
    some = TextStore(tmp_path / "some")
    some.verify()
    lines = [int(some[i][0][0]) for i in range(len(some))]
    assert len(lines) == 18 == made["lines"] and lines == sorted(set(lines))
    assert max(lines) >= 30 > min(lines), "of both shards"
    for place, line in enumerate(lines):
        assert some[place][0].tolist() == whole[line][0].tolist()
        assert some[place][1] == whole[line][1]
    for name in ("langs", "tokenizer_sha256", "text_style"):
        assert made[name] == whole.manifest[name]


def test_a_subset_is_kept_and_another_refused(tmp_path: Path) -> None:
    store(tmp_path / "whole")
    first = subset(tmp_path / "whole", tmp_path / "some", 18)
    assert subset(tmp_path / "whole", tmp_path / "some", 18) == first
    with pytest.raises(ValueError, match="is another store: remove it"):
        subset(tmp_path / "whole", tmp_path / "some", 19)
    with pytest.raises(ValueError, match="lines: at least 1"):
        subset(tmp_path / "whole", tmp_path / "none", 0)
    assert subset(tmp_path / "whole", tmp_path / "all", 10**6)["lines"] == 50


def test_the_run_is_as_long_as_its_passes(tmp_path: Path) -> None:
    made = TextStore(store(tmp_path / "store")).manifest
    conf = ROOT / "conf/train_text.yaml"
    positions = made["tokens"] + 5 * made["lines"]
    small = tmp_path / "small.yaml"
    small.write_text(conf.read_text().replace("batch_bins: 16000 ", "batch_bins: 20 "))
    found = plan(tmp_path / "store", small, tmp_path / "out.yaml", passes=3, checks=4)
    assert found["max_epoch"] == 12
    per_pass = 4 * found["num_iters_per_epoch"]
    assert positions / 20 <= per_pass < positions / 20 + 4
    assert found["scheduler_conf"]["inner_conf"]["warmup_steps"] == 3 * per_pass // 10
    assert "patience" not in found
    assert yaml.safe_load((tmp_path / "out.yaml").read_text()) == found
    assert found["optim_conf"] == yaml.safe_load(conf.read_text())["optim_conf"]


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("batch_bins: 900\n", {"passes": 0}, "passes: at least 1, got 0"),
        ("optim: adamw\n", {}, "batch_bins must be a whole number"),
        (None, {}, "no such configuration"),
    ],
)
def test_wrong_plans(
    tmp_path: Path, text: str | None, options: dict[str, int], message: str
) -> None:
    store(tmp_path / "store")
    if text is not None:
        (tmp_path / "conf.yaml").write_text(text)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan(tmp_path / "store", tmp_path / "conf.yaml", tmp_path / "out.yaml", **options)


def test_the_report_names_what_is_forgotten(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    system = tmp_path / "text1m"
    system.mkdir()
    with pytest.raises(FileNotFoundError, match="training is not finished"):
        report(system, store(tmp_path / "store"), tmp_path / "T.md")
    (system / "curve.csv").write_text(CURVE)
    groups = {"cross_attn": {"changed": 0}, "ffn": {"changed": 8}, "encoder": {"changed": 0}}
    (system / "freeze_proof.json").write_text(json.dumps({"groups": groups}))
    text = report(system, tmp_path / "store", tmp_path / "T.md")
    assert "Validation loss 3.500 at the start, 2.500 at best (epoch 1)" in text
    assert "Bit-identical to the start: cross_attn, encoder. So the decoder adapted without" in text
    assert "Perplexity of cs: 60.0 to 11.5 (better)" in text
    assert "Perplexity of en: 20.0 to 21.0 (WORSE: forgotten)" in text
    assert "| 40 | 3.000 | 2.500 | 11.5 | 21.0 |" in text
    assert "50 lines" in text and (tmp_path / "T.png").stat().st_size > 5000
    assert (tmp_path / "T.md").read_text() == text


def test_one_command_runs_it(tmp_path: Path) -> None:
    recipe = Recipe(tmp_path)
    result = recipe.run("local/run_experiment.sh", "text1m")
    assert result.returncode == 2
    assert "exp/init/config.json is missing; recipe stage 5 makes it" in result.stderr
    for name in ("exp/init/config.json", "dump/text1m/train.yaml"):
        path = recipe.asr1 / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    result = recipe.run("local/run_experiment.sh", "text1m")
    assert "dump/text/train is missing; recipe stage 6 makes it" in result.stderr
    for name in ("train", "valid"):  # the stand-in for Python makes neither
        (recipe.asr1 / "dump/text1m" / name).mkdir()
    options = ["--input", "a.txt b/*.zst", "--lines", "500", "--ngpu", "2"]
    options += ["--", "--max_epoch", "3"]
    result = recipe.run("local/run_experiment.sh", "text1m", *options)
    assert result.returncode == 0, result.stderr
    prepare, drawn, planned, trained, reported = recipe.calls()
    assert prepare[:5] == ["text_corpus", "prepare", "--input", "a.txt", "b/*.zst"]
    assert drawn[:2] == ["text_experiment", "subset"] and "500" in drawn
    assert planned[:2] == ["text_experiment", "plan"] and "--ngpu" not in planned
    assert trained[0] == "asr_train" and trained[-2:] == ["--max_epoch", "3"]
    assert trained[trained.index("--config") + 1] == "dump/text1m/train.yaml"
    assert trained[trained.index("--valid_text") + 1] == "dump/text1m/valid"
    assert trained[trained.index("--output_dir") + 1] == "exp/text1m"
    assert reported[:2] == ["text_experiment", "report"]
    # what was begun with one plan is not reported as another
    (recipe.asr1 / "dump/text1m/train.yaml").write_text("{max_epoch: 9}")
    result = recipe.run("local/run_experiment.sh", "text1m", *options)
    assert result.returncode == 2
    assert "exp/text1m was trained with other settings" in result.stderr


@pytest.mark.slow
def test_the_whole_experiment_on_a_tiny_model(tiny_whisper: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rng = np.random.default_rng(0)
    words = ["saya", "nak", "pergi", "makan", "dengan", "the", "meeting", "report", "lunch"]
    lines = [" ".join(rng.choice(words, 8)) for _ in range(400)]
    (tmp_path / "web.txt").write_text("\n".join(lines) + "\n")
    conf = tmp_path / "conf.yaml"
    conf.write_text((ROOT / "conf/demo/train_text.yaml").read_text())
    corpus = tmp_path / "corpus.yaml"
    corpus.write_text("valid_share: 0.1\n")
    command = [ROOT / "local/run_experiment.sh", "text1m", "--input", tmp_path / "web.txt"]
    command += ["--lines", "200", "--checks", "2", "--passes", "1", "--ngpu", "0"]
    command += ["--init_dir", tiny_whisper, "--train_config", conf, "--corpus_config", corpus]
    for name in ("dumpdir", "output_dir", "expdir"):
        command += [f"--{name}", tmp_path / name]
    command += ["--report", tmp_path / "T.md"]
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    text = (tmp_path / "T.md").read_text()
    assert "Stage 1 on 200 lines" in text and "Perplexity of cs" in text
    assert "cross_attn" in text and "encoder" in text
