"""The ESPnet model: losses, statistics, and what one step of each stage moves."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F

import espnet_plugin
from espnet_plugin import whisper as passes
from espnet_plugin.freeze import FreezeSchedule
from espnet_plugin.groups import group_of, is_fixed
from espnet_plugin.model import AsyncSwitchModel
from espnet_plugin.optim import build_optimizer
from espnet_plugin.stages import STAGES


def make(directory: Path, **options: Any) -> AsyncSwitchModel:
    return AsyncSwitchModel(directory, autocast="none", **options)


def batch(model: AsyncSwitchModel, paired: bool = True) -> dict[str, torch.Tensor]:
    texts = ["saya nak pergi", "meeting", "besok petang lunch dengan kawan saya"]
    rows = [torch.from_numpy(model.prompt.encode(t, "cs")) for t in texts]
    entry = {
        "text": torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1),
        "text_lengths": torch.tensor([len(r) for r in rows]),
    }
    if paired:
        generator = torch.Generator().manual_seed(0)
        entry["speech"] = 0.1 * torch.randn(3, 16_000, generator=generator)
        entry["speech_lengths"] = torch.tensor([16_000, 7_001, 12_345])
    return entry


@pytest.mark.parametrize("stage", STAGES)
def test_one_step_moves_the_stages_groups_only(tiny_whisper: Path, stage: str) -> None:
    model = make(tiny_whisper).train()
    optimizer = build_optimizer(model, torch.optim.AdamW, {"lr": 1e-2, "weight_decay": 0.5})
    schedule = FreezeSchedule(optimizer, trainable=list(STAGES[stage].trains))
    schedule.begin_epoch(1)
    before = {n: t.clone() for n, t in model.state_dict().items()}
    loss, _, _ = model(**batch(model, STAGES[stage].data == "paired"))
    loss.backward()
    optimizer.step()
    schedule.step()
    for name, tensor in model.state_dict().items():
        moves = group_of(name) in STAGES[stage].trains and not is_fixed(name)
        if name.endswith("k_proj.weight") or not moves:
            continue  # checked below, or a key's gradient may vanish by symmetry
        assert not torch.equal(tensor, before[name]), f"{name} did not move"
    for name, tensor in model.state_dict().items():
        if group_of(name) not in STAGES[stage].trains or is_fixed(name):
            assert torch.equal(tensor, before[name]), f"{name} moved"


@pytest.mark.parametrize(("generation", "half"), [(7, False), (8, True)])
def test_a_gpu_that_emulates_bfloat16_is_not_asked_to(
    tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch, generation: int, half: bool
) -> None:
    properties = SimpleNamespace(major=generation)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: properties)
    model = AsyncSwitchModel(tiny_whisper)
    device = torch.device("cuda")
    assert model._half(device) == half
    said = "bfloat16 (--autocast auto)" if half else "float32 (--autocast auto: this GPU has no"
    assert model.precision(device).startswith(said)


def freeze(model: AsyncSwitchModel, stage: str) -> set[str]:
    """Freeze as a stage does; return the names of what moves."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(group_of(name) in STAGES[stage].trains and not is_fixed(name))
    return {name for name, p in model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("stage", STAGES)
def test_the_graph_reaches_the_stages_groups_only(tiny_whisper: Path, stage: str) -> None:
    model = make(tiny_whisper).train()
    moving = freeze(model, stage)
    loss, _, _ = model(**batch(model, STAGES[stage].data == "paired"))
    names = {id(p): n for n, p in model.named_parameters()}
    reached, seen, waiting = set(), set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            reached.add(names[id(node.variable)])
        waiting += [following for following, _ in node.next_functions]
    assert reached == moving


def test_stage_1_multiplies_no_more_than_its_groups_need(tiny_whisper: Path) -> None:
    """Forward once, backward twice, for self-attention, feed-forward and the counted logits."""
    from torch.utils.flop_counter import FlopCounterMode

    model = make(tiny_whisper).train()
    freeze(model, "adapt_text")
    for layer in model.whisper.decoder.layers:  # a constant: computed without a graph
        layer.encoder_attn.out_proj.register_forward_hook(
            lambda *seen: pytest.fail("a graph") if seen[-1].requires_grad else None
        )
    entry = batch(model, paired=False)
    with FlopCounterMode(display=False) as counter:
        loss, _, count = model(**entry)
        loss.backward()
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if str(op) in ("aten.mm", "aten.addmm"))
    config = model.whisper.config
    width, positions = config.d_model, len(entry["text"]) * (entry["text"].shape[1] - 1)
    layer = 4 * width**2 + 2 * width * config.decoder_ffn_dim
    needed = positions * config.decoder_layers * layer + int(count) * width * config.vocab_size
    constant = 2 * config.decoder_layers * width**2  # of cross-attention: forward only
    assert products == 3 * 2 * needed + constant


def test_the_tied_table_gets_one_gradient(tiny_whisper: Path) -> None:
    model = make(tiny_whisper).train()
    entry = batch(model, paired=False)
    loss, _, _ = model(**entry)
    loss.backward()
    table = model.whisper.decoder.embed_tokens.weight
    found = table.grad.clone()
    with torch.no_grad():  # the same model with two tables
        inputs, targets = entry["text"][:, :-1].clamp(min=0), entry["text"][:, 1:].clone()
    targets[:, :3] = -1
    twins = [table.detach().clone().requires_grad_() for _ in range(2)]
    hidden = passes.decode(model.whisper, inputs, "zero", embedded=twins[0][inputs])
    F.cross_entropy(
        (hidden @ twins[1].T).flatten(0, 1), targets.flatten(), ignore_index=-1
    ).backward()
    assert (found - twins[0].grad - twins[1].grad).abs().max() < 1e-6
    with pytest.raises(RuntimeError):
        loss.backward()


def test_half_of_the_loss_has_half_of_the_gradient(tiny_whisper: Path) -> None:
    model = make(tiny_whisper).train()
    gradients = []
    for factor in (1.0, 0.5):  # ESPnet divides by accum_grad
        model.zero_grad()
        (model(**batch(model, paired=False))[0] * factor).backward()
        gradients.append(model.whisper.decoder.embed_tokens.weight.grad.clone())
    assert torch.allclose(gradients[0] / 2, gradients[1], atol=1e-8)


def rank(number: int, model: AsyncSwitchModel, store: str, output: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=number, world_size=2)
    wrapped = torch.nn.parallel.DistributedDataParallel(model)
    freeze(model, "adapt_text")  # after wrapping, as the trainer does
    entry = {k: v[number : number + 1] for k, v in batch(model, paired=False).items()}
    wrapped(**entry)[0].backward()
    grads = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    torch.save(grads, f"{output}/rank{number}.pt")
    dist.destroy_process_group()


@pytest.mark.skipif(not dist.is_gloo_available(), reason="this torch has no gloo")
def test_two_ranks_have_the_mean_gradient(tiny_whisper: Path, tmp_path: Path) -> None:
    """The tied table's gradient, which is put together in place, is reduced as a whole."""
    model = make(tiny_whisper).train()
    freeze(model, "adapt_text")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a fork does not survive other threads
    try:
        args = (model, str(tmp_path / "store"), str(tmp_path))
        mp.start_processes(rank, args, 2, start_method="fork")
    finally:
        torch.set_num_threads(threads)
    ranks = [torch.load(tmp_path / f"rank{n}.pt", weights_only=True) for n in (0, 1)]
    for number in (0, 1):
        entry = {k: v[number : number + 1] for k, v in batch(model, paired=False).items()}
        (model(**entry)[0] / 2).backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert torch.equal(ranks[0][name], ranks[1][name]), name
            assert (ranks[0][name] - parameter.grad).abs().max() < 1e-6, name


def test_the_loss_kernel_is_named_once(
    tiny_whisper: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    model = make(tiny_whisper).train()
    for _ in range(2):
        model(**batch(model, paired=False))
    said = [r.message for r in caplog.records if "loss kernel" in r.message]
    assert said == ["loss kernel on cpu: chunked (the device is cpu)"]


def test_stage_1_runs_no_encoder(tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(tiny_whisper)

    def refuse(*_: Any) -> None:
        raise AssertionError("the encoder ran")

    monkeypatch.setattr("espnet_plugin.whisper.encode", refuse)
    monkeypatch.setattr(model.log_mel, "forward", refuse)
    loss, stats, _ = model(**batch(model, paired=False))
    assert torch.isfinite(loss) and set(stats) == {"loss", "acc", "ppl"}


def test_a_frozen_encoder_builds_no_graph(tiny_whisper: Path) -> None:
    model = make(tiny_whisper)
    entry = batch(model)
    assert model.encode(entry["speech"], entry["speech_lengths"])[0].requires_grad
    for parameter in model.whisper.encoder.parameters():
        parameter.requires_grad_(False)
    assert not model.encode(entry["speech"], entry["speech_lengths"])[0].requires_grad


def test_loss_is_transformers_loss_over_text_and_end(tiny_whisper: Path) -> None:
    from transformers import WhisperForConditionalGeneration

    model = make(tiny_whisper, pad="30s").eval()
    entry = batch(model)
    loss, stats, weight = model(**entry)
    theirs = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).eval()
    features, _ = model.log_mel(entry["speech"], entry["speech_lengths"], "30s")
    targets = entry["text"][:, 1:].clone()
    targets[:, :3] = -1  # language, task, no-timestamps: the prompt is not in the loss
    with torch.no_grad():
        scores = theirs(features, decoder_input_ids=entry["text"][:, :-1].clamp(min=0)).logits
    expected = F.cross_entropy(scores.flatten(0, 1), targets.flatten(), ignore_index=-1)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    assert weight.item() == (targets >= 0).sum()
    hits = (scores.argmax(-1) == targets)[targets >= 0].float().mean()
    assert stats["acc"].item() == pytest.approx(hits.item())
    assert stats["ppl"].item() == pytest.approx(loss.exp().item(), rel=1e-5)


@pytest.mark.parametrize("stage", ["adapt_align", "adapt_full"])
def test_a_batch_equals_its_utterances_in_loss_and_gradients(
    tiny_whisper: Path, stage: str
) -> None:
    model = make(tiny_whisper)
    moving = freeze(model, stage)
    entry = batch(model)
    loss, _, weight = model(**entry)
    (loss * weight).backward()
    together = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    total = 0.0
    for row in range(3):
        samples = int(entry["speech_lengths"][row])
        one = {k: v[row : row + 1] for k, v in entry.items()} | {
            "speech": entry["speech"][row : row + 1, :samples]
        }
        alone, _, count = model(**one)
        (alone * count).backward()
        total += (alone * count).item()
    assert total == pytest.approx((loss * weight).item(), rel=1e-5)
    assert set(together) == moving
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            assert (parameter.grad - together[name]).abs().max() < 1e-4, name


@pytest.mark.parametrize("stage", ["adapt_align", "adapt_full"])
def test_30s_has_transformers_gradients(tiny_whisper: Path, stage: str) -> None:
    from transformers import WhisperForConditionalGeneration

    model = make(tiny_whisper).train()  # a batch says its padding
    moving = freeze(model, stage)
    entry = batch(model)
    loss, _, _ = model(**entry, pad="30s")
    loss.backward()
    theirs = WhisperForConditionalGeneration.from_pretrained(tiny_whisper).train()
    features, _ = model.log_mel(entry["speech"], entry["speech_lengths"], "30s")
    labels = entry["text"][:, 1:].masked_fill(entry["text"][:, 1:] < 0, -100)
    labels[:, :3] = -100
    inputs = entry["text"][:, :-1].clamp(min=0)
    expected = theirs(features, decoder_input_ids=inputs, labels=labels).loss
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), abs=1e-5)
    gradients = {n.removeprefix("model."): p.grad for n, p in theirs.named_parameters()}
    for name, parameter in model.named_parameters():
        if name in moving:
            their = gradients[name.removeprefix("whisper.")]
            assert (parameter.grad - their).abs().max() < 1e-4, name


def test_label_smoothing_in_training_only(tiny_whisper: Path) -> None:
    plain, smooth = make(tiny_whisper), make(tiny_whisper, label_smoothing=0.2)
    entry = batch(plain)
    losses = [m.train(mode)(**entry)[0].item() for m in (plain, smooth) for mode in (True, False)]
    assert losses[0] == pytest.approx(losses[1]) == pytest.approx(losses[3])
    assert abs(losses[2] - losses[0]) > 1e-3


def test_skip_differs_from_zero(tiny_whisper: Path) -> None:
    zero, skip = make(tiny_whisper), make(tiny_whisper, memory="skip")
    entry = batch(zero, paired=False)
    assert abs(zero(**entry)[0] - skip(**entry)[0]) > 1e-3


def test_bfloat16_is_close(tiny_whisper: Path) -> None:
    model = make(tiny_whisper)
    entry = batch(model)
    exact = model(**entry)[0].item()
    model.autocast = "bfloat16"
    half, _, _ = model(**entry)
    half.backward()
    assert half.item() == pytest.approx(exact, rel=2e-2)
    assert half.dtype == torch.float32


def test_state_dict_is_whispers_with_the_tied_weight_once(tiny_whisper_v3: Path) -> None:
    model = make(tiny_whisper_v3)
    names = list(model.state_dict())
    assert all(name.startswith("whisper.") for name in names)
    assert sum(t.shape[0] == 51866 for t in model.state_dict().values() if t.dim() == 2) == 1
    assert model.log_mel.filters.shape[0] == 128 and model.vocab_size == 51866


def test_espnets_own_task_builds_the_model(tiny_whisper: Path) -> None:
    import argparse

    from espnet2.tasks.asr import ASRTask

    espnet_plugin.register()
    espnet_plugin.register()  # idempotent
    tokens = (tiny_whisper / "tokens.txt").read_text().splitlines()
    name = espnet_plugin.NAME
    args = argparse.Namespace(
        token_list=tokens,
        input_size=1,
        specaug=None,
        normalize=None,
        encoder=name,
        encoder_conf={"model_dir": str(tiny_whisper)},
        decoder=name,
        decoder_conf={"model_dir": str(tiny_whisper)},
        ctc_conf={},
        model=name,
        model_conf={"autocast": "none"},
        init=None,
    )
    model = ASRTask.build_model(args)
    assert isinstance(model, AsyncSwitchModel) and model.encoder.output_size() == 16
    loss, _, _ = model(**batch(model))
    assert torch.isfinite(loss)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"loss_kernel": "fast"}, "loss_kernel is one of auto, chunked, liger, cce, got 'fast'"),
        ({"pad": "60s"}, "pad is one of batch, 30s, got '60s'"),
        ({"memory": "none"}, "memory is one of zero, skip"),
        ({"autocast": "fp16"}, "autocast is one of auto, bfloat16, none"),
        ({"label_smoothing": 1.5}, "label_smoothing lies in 0..1"),
        ({"token_list": ["a"]}, "vocabulary mismatch: the token list has 1 entries, the model in"),
        ({"frontend": object()}, "frontend must be null"),
        ({"ctcweight": 0.3}, "unknown model option.*ctcweight"),
        ({"lang_tokens": "cs:xx"}, "has no language 'xx'"),
    ],
)
def test_options_are_checked(tiny_whisper: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AsyncSwitchModel(tiny_whisper, **options)


def test_no_ctc(tiny_whisper: Path) -> None:
    model = make(tiny_whisper)
    assert not list(model.ctc.parameters())
    with pytest.raises(ValueError, match="--ctc_weight 0"):
        model.ctc(None)


def test_a_stray_batch_entry_is_an_error(tiny_whisper: Path) -> None:
    model = make(tiny_whisper)
    with pytest.raises(ValueError, match="unexpected batch entries: prompt"):
        model(**batch(model), prompt=torch.zeros(1))
