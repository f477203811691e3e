"""Whole training runs by ESPnet's trainer on a tiny Whisper: resuming, proofs, bad input."""

import gc
import json
import math
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import espnet_plugin
from espnet_plugin.checkpoint import load_state, tensor_hashes
from espnet_plugin.finish import finish, is_finished, prove_frozen
from espnet_plugin.groups import group_of, is_fixed
from espnet_plugin.stages import STAGES
from espnet_plugin.systems import Plan, train
from espnet_plugin.task import AsyncSwitchTask
from espnet_plugin.trainer import AsyncSwitchTrainer, read_curve
from espnet_plugin.training.side_by_side import train_side_by_side
from tests.fixtures.pairs import write_pairs, write_text_store

SHORT = """
optim: adamw
optim_conf: {{lr: 1.0e-3, weight_decay: 0.1}}
scheduler: freeze
scheduler_conf: {{inner: warmuplinear, inner_conf: {{warmup_steps: 2, total_steps: 8}}}}
max_epoch: {epochs}
num_iters_per_epoch: 2
batch_type: sorted
batch_size: 4
batch_bins: 100
autocast: none
num_workers: 0
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory, tiny_whisper: Path) -> Path:
    root = tmp_path_factory.mktemp("data with space")
    write_pairs(root / "train", 12)
    write_pairs(root / "valid", 4, seed=1)
    write_text_store(root / "text_train", tiny_whisper, 40)
    write_text_store(root / "text_valid", tiny_whisper, 6, seed=1)
    return root


@pytest.fixture
def command(data: Path, tiny_whisper: Path, tmp_path: Path) -> Callable[..., list[str]]:
    def make(stage: str, name: str, epochs: int = 2, **options: Any) -> list[str]:
        config = tmp_path / f"{stage}_{epochs}.yaml"
        config.write_text(SHORT.format(epochs=epochs))
        made = ["--config", str(config), "--adaptation_stage", stage]
        made += ["--init_dir", str(tiny_whisper), "--output_dir", str(tmp_path / name)]
        if STAGES[stage].data == "text":
            made += ["--train_text", str(data / "text_train")]
            made += ["--valid_text", str(data / "text_valid")]
        else:
            made += ["--train_data", str(data / "train"), "--valid_data", str(data / "valid")]
        for key, value in options.items():
            made += [f"--{key}", str(value)]
        return made

    return make


def in_tensorboard(folder: Path) -> dict[str, list[float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    return {tag: [e.value for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.parametrize("stage", ["adapt_text", "adapt_align", "adapt_full"])
def test_a_stage_trains_and_proves_what_it_froze(
    command: Callable[..., list[str]], tiny_whisper: Path, tmp_path: Path, stage: str
) -> None:
    from transformers import WhisperForConditionalGeneration

    AsyncSwitchTask.main(cmd=command(stage, "out", use_tensorboard=stage == "adapt_text"))
    before, after = tensor_hashes(tiny_whisper), tensor_hashes(tmp_path / "out")
    for name, digest in before.items():
        moves = group_of(name) in STAGES[stage].trains and not is_fixed(name)
        if not moves:
            assert after[name] == digest, f"{name} moved"
    assert any(after[n] != before[n] for n in before)
    assert not hasattr(AsyncSwitchTrainer, "_run"), "model and optimiser are still held"
    proof = json.loads((tmp_path / "out" / "freeze_proof.json").read_text())
    assert proof["identical"] and proof["changed"] > 0
    assert is_finished(tmp_path / "out")
    curve = read_curve(tmp_path / "out" / "curve.csv")
    assert [row["epoch"] for row in curve] == [0, 1, 2]
    assert [row["updates"] for row in curve] == [0, 2, 4]
    assert min(row["valid_loss"] for row in curve[1:]) < curve[0]["valid_loss"]
    for row in curve:
        losses = [row[k] for k in row if k.startswith("valid_loss_")]
        assert len(losses) >= 2 and min(losses) < row["valid_loss"] < max(losses)
        for name in ("valid_loss", "valid_loss_cs", "valid_loss_ms"):
            assert row[name.replace("loss", "ppl")] == pytest.approx(math.exp(row[name]))
    if stage == "adapt_text":
        shown = in_tensorboard(tmp_path / "out" / "tensorboard" / "valid")
        for name in ("loss", "ppl", "loss_cs", "ppl_ms"):
            expected = [row[f"valid_{name}"] for row in curve[1:]]
            assert shown[name] == pytest.approx(expected, rel=1e-5)
        speed = in_tensorboard(tmp_path / "out" / "tensorboard" / "train")
        for name in ("utt_per_s", "tokens_per_s", "peak_gb"):
            assert min(speed[name]) > 0 and min(row[name] for row in curve[1:]) > 0
    _, info = WhisperForConditionalGeneration.from_pretrained(
        tmp_path / "out", output_loading_info=True
    )
    assert not info["missing_keys"] and not info["unexpected_keys"]


# Three batches, two of them an update: what is left must not wait for the next epoch.
ODD = {"accum_grad": 2, "num_iters_per_epoch": "none"}


@pytest.mark.parametrize(
    ("stage", "options"),
    [("adapt_text", {}), pytest.param("adapt_full", ODD, marks=pytest.mark.slow)],
)
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    command: Callable[..., list[str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stage: str,
    options: dict[str, Any],
) -> None:
    AsyncSwitchTask.main(cmd=command(stage, "whole", 3, **options))
    trained = AsyncSwitchTrainer.train_one_epoch.__func__

    def interrupted(cls: Any, *args: Any, **kwargs: Any) -> bool:
        if kwargs["reporter"].get_epoch() == 3:
            raise KeyboardInterrupt
        return trained(cls, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(AsyncSwitchTrainer, "train_one_epoch", classmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            AsyncSwitchTask.main(cmd=command(stage, "parts", 3, **options))
    assert not is_finished(tmp_path / "parts")
    AsyncSwitchTask.main(cmd=command(stage, "parts", 3, **options))
    whole, parts = load_state(tmp_path / "whole"), load_state(tmp_path / "parts")
    assert all(torch.equal(whole[name], parts[name]) for name in whole)
    for column in ("epoch", "updates", "train_loss", "valid_loss"):
        rows = [
            [row[column] for row in read_curve(tmp_path / name / "curve.csv")[1:]]
            for name in ("whole", "parts")
        ]
        assert rows[0] == rows[1], column


@pytest.mark.slow
def test_gradual_schedule_averaging_and_no_checkpoints(
    command: Callable[..., list[str]], tiny_whisper: Path, tmp_path: Path
) -> None:
    joins = (
        "[{at: 0, unit: epoch, groups: [cross_attn]}, {at: 1, unit: epoch, groups: [output.0]}]"
    ).replace("output.0", "output")
    cmd = command("adapt_full", "out", 2, keep="average", keep_nbest_models=2)
    text = (
        Path(cmd[1])
        .read_text()
        .replace("inner: warm", f"kind: gradual, joins: {joins}, inner: warm")
    )
    Path(cmd[1]).write_text(text)
    AsyncSwitchTask.main(cmd=[*cmd, "--keep_checkpoints", "false"])
    proof = json.loads((tmp_path / "out" / "freeze_proof.json").read_text())
    changed = {group for group, count in proof["groups"].items() if count["changed"]}
    assert changed == {"cross_attn", "output"}, "ESPnet's averaging rewrites even frozen floats"
    assert not list((tmp_path / "out").glob("*.pth"))


@pytest.mark.slow
def test_wandb_gets_the_numbers_of_the_curve(
    command: Callable[..., list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    sent: dict[str, list[float]] = {}
    original = wandb.sdk.wandb_run.Run.log

    def log(run: Any, row: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        for name, value in row.items():
            sent.setdefault(name, []).append(value)
        original(run, row, *args, **kwargs)

    monkeypatch.setattr(wandb.sdk.wandb_run.Run, "log", log)
    AsyncSwitchTask.main(cmd=command("adapt_align", "out", use_wandb="true", log_interval=1))
    curve = read_curve(tmp_path / "out" / "curve.csv")[1:]
    for name in ("valid_loss", "valid_loss_cs", "valid_loss_ms", "valid_loss_en"):
        assert sent[f"valid/{name}_epoch"] == pytest.approx([row[name] for row in curve])
    assert max(sent["metrics/utt_per_s"]) > 0 and "train/train_tokens_per_s_epoch" in sent
    assert list((tmp_path / "out" / "wandb").glob("offline-run-*/*.wandb"))


def test_a_broken_proof_is_an_error(tiny_whisper: Path, make_whisper: Any, tmp_path: Path) -> None:
    other = make_whisper("other", seed=5)
    proof = prove_frozen(tiny_whisper, other, {"cross_attn"})
    assert not proof["identical"]
    assert "model.decoder.embed_tokens.weight" in proof["violations"]
    assert not any("encoder_attn" in name for name in proof["violations"])
    torch.save(
        {n.replace("model.", "whisper.", 1): t for n, t in load_state(other).items()},
        tmp_path / "1epoch.pth",
    )
    (tmp_path / "latest.pth").symlink_to("1epoch.pth")
    (tmp_path / "curve.csv").write_text(
        "epoch,updates,train_loss,valid_loss,valid_acc,seconds\n0,0,,2,0,1\n1,2,1,1,0,2\n"
    )
    with pytest.raises(RuntimeError, match="frozen tensors changed"):
        finish(tmp_path, tiny_whisper, "adapt_align", {"cross_attn"}, keep="last")
    assert not is_finished(tmp_path)


@pytest.mark.slow
def test_systems_are_trained_once_and_refuse_other_settings(
    data: Path, make_whisper: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_whisper("exp/init")
    config = tmp_path / "short.yaml"
    config.write_text(SHORT.format(epochs=1))
    pair = (str(data / "train"), str(data / "valid"))
    plan = Plan(
        tmp_path / "exp",
        dict.fromkeys(STAGES, str(config)),
        dict.fromkeys(STAGES, pair),
        (str(data / "text_train"), str(data / "text_valid")),
        {"keep_checkpoints": "false"},
    )
    with pytest.raises(FileNotFoundError, match="adapt_text is missing: recipe stage 8 makes it"):
        train(["adapt_align"], plan)
    train_side_by_side(["adapt_text", "adapt_align", "direct_full"], plan, 2)
    records = {
        name: json.loads((tmp_path / "exp" / name / "training.json").read_text())
        for name in ("adapt_align", "direct_full")
    }
    assert records["adapt_align"]["updates"] == 2
    assert records["direct_full"]["updates"] == 4, "as many paired updates as stages 2 and 3"
    capsys.readouterr()
    train(["adapt_text"], plan)
    assert "finished earlier, skipped" in capsys.readouterr().out
    config.write_text(SHORT.format(epochs=1).replace("1.0e-3", "2.0e-3"))
    with pytest.raises(ValueError, match=r"settings or data \(configuration\): remove it"):
        train(["adapt_text"], plan)


def test_a_gpu_is_free_when_the_next_system_is_built(
    data: Path, make_whisper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Held:
        def __init__(self) -> None:
            self.itself = self

    held: list[weakref.ref[Held]] = []

    def main(cmd: list[str]) -> None:
        assert all(each() is None for each in held)
        held.append(weakref.ref(Held()))
        monkeypatch.setattr("espnet_plugin.systems.is_finished", lambda directory: True)

    make_whisper("exp/init")
    make_whisper("exp/adapt_text")
    config = tmp_path / "short.yaml"
    config.write_text(SHORT.format(epochs=1))
    pair = (str(data / "train"), str(data / "valid"))
    configs, paired = dict.fromkeys(STAGES, str(config)), dict.fromkeys(STAGES, pair)
    plan = Plan(tmp_path / "exp", configs, paired, pair, {"ngpu": "1"})
    monkeypatch.setattr(AsyncSwitchTask, "main", main)
    monkeypatch.setattr("espnet_plugin.systems.is_trained", lambda system, plan: False)
    gc.disable()
    try:
        train(["align_only", "adapt_align"], plan)
    finally:
        gc.enable()
    assert len(held) == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"adaptation_stage": "adapt_txt"}, r"stage 'adapt_txt' \(did you mean adapt_text\?\)"),
        ({"train_text": None}, r"stage adapt_text \(text data\) needs --train_text"),
        ({"train_data": "x"}, r"stage adapt_text \(text data\) does not take --train_data"),
        ({"use_amp": "true"}, "--use_amp: --autocast decides"),
        ({"use_deepspeed": "true"}, "DeepSpeed would discard the freeze schedule"),
        ({"freeze_param": "whisper"}, "--freeze_param: the stage decides"),
        ({"scheduler": "warmuplr"}, "--scheduler is freeze"),
        ({"lang_tokens": "cs:zz"}, "has no language 'zz'"),
        ({"group_lr": "fnn=0.1"}, "group_lr: unknown parameter group 'fnn'.* ffn"),
        ({"group_lr": "ffn=fast"}, "group_lr: ffn needs a number, 0 or more, got fast"),
        ({"accum_grad": "0"}, "--accum_grad is 1 or more, got 0"),
        ({"max_epoch": "0"}, "--max_epoch is 1 or more, got 0"),
        ({"batch_bins": "0"}, "--batch_bins is 1 or more, got 0"),
        ({"grad_clip": "-1"}, "--grad_clip is above 0 .*, got -1"),
        (
            {"num_iters_per_epoch": "none", "accum_grad": "99"},
            "an epoch has .* batches, fewer than",
        ),
        ({"scheduler_conf": "iner=x"}, r"no option 'iner' \(did you mean inner\?\)"),
        ({"scheduler_conf": "inner_conf.warmup_stps=9"}, "no option 'warmup_stps'.*warmup_steps"),
        ({"early_stopping_criterion": ("valid", "los", "min")}, "no measure 'los'.* loss"),
        ({"best_model_criterion": "valid,wer,min"}, "needs --valid_wer_utts"),
        ({"autocast": "bfloat"}, r"got 'bfloat' \(did you mean bfloat16\?\)"),
        ({"accum_grad": "3"}, "--num_iters_per_epoch 2 is no multiple of --accum_grad 3"),
        ({"scheduler_conf": "trainable=[ffn]"}, "groups come from --adaptation_stage"),
        ({"init_dir": "/nowhere"}, "/nowhere/tokenizer.json: no such file"),
        ({"train_text": "/nowhere"}, "not a token store"),
    ],
)
def test_bad_options_are_named(
    command: Callable[..., list[str]], change: dict[str, Any], message: str
) -> None:
    cmd = command("adapt_text", "out")
    for key, value in change.items():
        option = f"--{key}"
        if option in cmd:
            at = cmd.index(option)
            del cmd[at : at + 2]
        if value is not None:
            cmd += [option, *([value] if isinstance(value, str) else value)]
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        AsyncSwitchTask.main(cmd=cmd)


def test_an_unknown_configuration_key_suggests_the_nearest(
    command: Callable[..., list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    cmd = command("adapt_text", "out")
    Path(cmd[1]).write_text(Path(cmd[1]).read_text() + "label_smothing: 0.1\n")
    with pytest.raises(SystemExit):
        AsyncSwitchTask.main(cmd=cmd)
    assert "label_smothing" in (error := capsys.readouterr().err)
    assert "did you mean label_smoothing?" in error
    Path(cmd[1]).write_text("\toptim: adamw\n")
    with pytest.raises(SystemExit):
        AsyncSwitchTask.main(cmd=cmd)
    assert "is no YAML: while scanning for the next token\nfound character" in (
        error := capsys.readouterr().err
    )
    assert f'in "{cmd[1]}", line 1' in error


def test_unformatted_data_says_which_stage_makes_it(
    command: Callable[..., list[str]], tmp_path: Path
) -> None:
    cmd = command("adapt_full", "out")
    cmd[cmd.index("--train_data") + 1] = str(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="recipe stage 3"):
        AsyncSwitchTask.main(cmd=cmd)


@pytest.mark.parametrize(
    "kind",
    ["missing", *(pytest.param(k, marks=pytest.mark.slow) for k in ("text", "corrupt", "long"))],
)
def test_a_bad_utterance_is_named(
    command: Callable[..., list[str]], tmp_path: Path, kind: str
) -> None:
    import numpy as np
    import soundfile

    bad = write_pairs(tmp_path / "bad", 4)
    wav = bad / "spk-002.wav"
    if kind == "missing":
        wav.unlink()
    elif kind == "corrupt":
        wav.write_bytes(b"RIFF nothing")
    elif kind == "long":
        soundfile.write(wav, np.zeros(31 * 16_000), 16_000)
    else:
        lines = (bad / "text").read_text().splitlines()
        lines[2] = "spk-002 " + "saya " * 460
        (bad / "text").write_text("\n".join(lines) + "\n")
    cmd = command("adapt_full", "out")
    cmd[cmd.index("--train_data") + 1] = str(bad)
    cmd += ["--num_iters_per_epoch", "8"]
    with pytest.raises(Exception, match="spk-002"):
        AsyncSwitchTask.main(cmd=cmd)


def test_register_is_idempotent_and_complete() -> None:
    from espnet2.tasks import abs_task, asr

    espnet_plugin.register()
    counts = [len(c.classes) for c in (asr.model_choices, asr.encoder_choices, asr.decoder_choices)]
    schedulers = set(abs_task.scheduler_classes)
    espnet_plugin.register()
    assert counts == [
        len(c.classes) for c in (asr.model_choices, asr.encoder_choices, asr.decoder_choices)
    ]
    assert {"freeze", "warmuplinear"} <= schedulers == set(abs_task.scheduler_classes)
