"""ESPnet's inference: the only test module that pays for importing it."""

import dataclasses
import shutil

import numpy as np
import pytest
import soundfile
import torch
import yaml

import espnet_plugin
from espnet_plugin.bin import asr_inference as command
from espnet_plugin.checkpoint import load_state, write_safetensors
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.recognizer import Recognizer

LIMIT = 9


@pytest.fixture(scope="module")
def speech2text(lively):
    from espnet_plugin.decode.speech2text import Speech2Text

    return Speech2Text(model_dir=lively, language="cs", beam_size=3, maxlenratio=-LIMIT)


@pytest.fixture
def lively_end(speech2text, rules):
    """Both searches with a model that ends: the same help for `<|endoftext|>`."""
    decoder = speech2text.asr_model.decoder
    decoder._rules = rules
    yield speech2text
    decoder.choose("cs")


def test_equals_our_own_beam_search(lively, lively_end, rules, waves):
    recognizer = Recognizer(lively, Options(beam_size=3, max_tokens_per_second=0))
    recognizer.rules = rules
    lively_end.maxlenratio = -448.0
    found = [lively_end(wave)[0] for wave in waves]
    together = [hyps[0] for hyps in lively_end.batch_decode(list(waves))]
    ours = recognizer(waves, ["cs"] * len(waves))
    lively_end.maxlenratio = -float(LIMIT)
    for espnet, batch, own in zip(found, together, ours, strict=True):
        for text, tokens, ids, hyp in (espnet, batch):
            assert ids == own.ids and len(tokens) == len(ids)
            assert text == recognizer.prompt.decode(own.ids)
            assert float(hyp.score) == pytest.approx(own.score, abs=1e-3)
    assert len({len(own.ids) for own in ours}) > 1


def test_stops_when_nothing_can_become_better(lively_end, waves, monkeypatch):
    steps = []
    decoder = lively_end.asr_model.decoder
    original = decoder.batch_score
    monkeypatch.setattr(
        decoder, "batch_score", lambda *a, **k: steps.append(1) or original(*a, **k)
    )
    lively_end.maxlenratio = -448.0
    best = lively_end(waves[0])[0]
    lively_end.maxlenratio = -float(LIMIT)
    assert len(steps) < 40 and len(best[2]) <= len(steps)


def test_interface(speech2text, waves):
    """What ESPnet's own callers rely on: text, tokens, ids, hypothesis."""
    assert isinstance(speech2text, espnet_plugin.Speech2Text)
    text, tokens, ids, hyp = speech2text(waves[0].numpy())[0]
    model = speech2text.asr_model
    assert tokens == [model.token_list[i] for i in ids]
    assert hyp.yseq[0] == model.sos and hyp.yseq[-1] == model.eos
    assert text == model.prompt.decode(ids) and 0 < len(ids) <= LIMIT
    assert len(speech2text([waves[0], waves[1]])) == 2


def test_exclamation_mark_is_kept(speech2text, waves):
    decoder = speech2text.asr_model.decoder
    plain = decoder._rules
    bias = plain.bias.clone()
    bias[0] = 1000.0
    decoder._rules = dataclasses.replace(plain, bias=bias)
    text, tokens, ids, _ = speech2text(waves[0])[0]
    decoder._rules = plain
    assert ids == [0] * len(ids) and tokens[0] == "!" and text == "!" * len(ids) and ids


def test_language_of_a_call(speech2text, waves):
    def score(results):
        return float(results[0][3].score)

    cs, en = score(speech2text(waves[2])), score(speech2text(waves[2], language="en"))
    assert en != cs and score(speech2text(waves[2])) == cs
    assert score(speech2text.batch_decode([waves[2]], language="en")[0]) == en
    with pytest.raises(ValueError, match="language 'eng' is not in lang_tokens .did you mean en"):
        speech2text(waves[2], language="eng")
    assert score(speech2text(waves[2])) == cs


def test_any_whisper_code(lively, waves):
    speech2text = espnet_plugin.Speech2Text(
        asr_model_file=str(lively), language="de", timestamps=True, maxlenratio=-5.0, beam_size=2
    )
    model = speech2text.asr_model
    assert model.decoder._prompt_ids == (model.sos, model.prompt.token_id("<|de|>"), 50359)
    text, tokens, ids, _ = speech2text(waves[0])[0]
    assert tokens[0].startswith("<|0.") and ids[0] >= model.prompt.timestamp_begin
    assert "<|" not in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ctc_weight": 0.3}, "no CTC layer"),
        ({"language": "klingon"}, "no language 'klingon'"),
        ({"streaming": True}, "streaming is not supported"),
        ({"lang_prompt_token": "<|en|>"}, "lang_prompt_token is not supported.*give language"),
        ({"asr_model_file": "x"}, "either model_dir or asr_model_file"),
        ({"pad": "half"}, "pad is one of batch, 30s"),
    ],
)
def test_bad_options(lively, options, message):
    with pytest.raises(ValueError, match=message):
        espnet_plugin.Speech2Text(model_dir=lively, **options)


def test_nothing_given(tmp_path):
    with pytest.raises(ValueError, match="give model_dir, asr_model_file or asr_train_config"):
        espnet_plugin.Speech2Text()
    with pytest.raises(FileNotFoundError, match="no such model file"):
        espnet_plugin.Speech2Text(model_dir=tmp_path / "none")


@pytest.fixture
def trained(lively, tmp_path):
    """A directory as training leaves it: configuration, checkpoint, model directory."""
    path = tmp_path / "adapt_full"
    shutil.copytree(lively, path)
    state = {n.replace("model.", "whisper.", 1): t for n, t in load_state(lively).items()}
    torch.save(state, path / "valid.loss.best.pth")
    conf = {"model_dir": str(lively), "pad": "30s", "lang_tokens": "cs:en", "memory": "zero"}
    (path / "config.yaml").write_text(yaml.safe_dump({"model_conf": conf, "token_type": "x"}))
    return path


def test_espnet_checkpoint_and_configuration(trained, waves):
    found = []
    for options in (
        {"asr_train_config": trained / "config.yaml"},
        {"asr_model_file": trained / "valid.loss.best.pth"},
        {"asr_model_file": trained / "model.safetensors"},
        {"model_dir": trained},
    ):
        speech2text = espnet_plugin.Speech2Text(maxlenratio=-3.0, beam_size=2, **options)
        assert speech2text.asr_model.pad == "30s" and speech2text.language == "cs"
        found.append(speech2text(waves[1])[0][2])
    assert found[1:] == found[:-1]
    # before training has finished, the directory that it started from has the tokenizer
    (trained / "tokenizer.json").unlink()
    speech2text = espnet_plugin.Speech2Text(
        asr_model_file=trained / "valid.loss.best.pth", maxlenratio=-3.0, beam_size=2
    )
    assert speech2text(waves[1])[0][2] == found[0]


def test_loading_is_strict(trained):
    path = trained / "valid.loss.best.pth"
    whole = torch.load(path, weights_only=True)
    name = "whisper.decoder.layers.1.fc1.bias"
    for change, message in (
        ({name: None}, f"1 tensors are missing, first {name}"),
        ({"whisper.extra": torch.zeros(1)}, "1 surplus tensors, first whisper.extra"),
        ({name: torch.zeros(3)}, r"fc1.bias has the shape \(3,\), the model \(32,\)"),
    ):
        torch.save({k: v for k, v in (whole | change).items() if v is not None}, path)
        with pytest.raises(ValueError, match=message):
            espnet_plugin.Speech2Text(asr_model_file=path)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="not a checkpoint of tensors"):
        espnet_plugin.Speech2Text(asr_model_file=path)


def test_a_checkpoint_that_holds_code_is_refused(trained):
    path = trained / "valid.loss.best.pth"
    torch.save({"whisper": trained}, path)  # a pickled object
    with pytest.raises(ValueError, match="not a checkpoint of tensors"):
        espnet_plugin.Speech2Text(asr_model_file=path)


@pytest.mark.parametrize("change", ["missing", "surplus"])
def test_model_directory_is_loaded_strictly(lively, tmp_path, change):
    path = tmp_path / "model"
    shutil.copytree(lively, path)
    state = load_state(path)
    if change == "missing":
        del state["model.decoder.layer_norm.bias"]
    else:
        state["model.decoder.extra.weight"] = torch.zeros(2)
    write_safetensors(path / "model.safetensors", state)
    with pytest.raises(ValueError, match="layer_norm.bias|extra.weight"):
        espnet_plugin.Speech2Text(model_dir=path)


def test_espnet_is_as_it_was(speech2text):
    from espnet2.bin import asr_inference
    from espnet2.tasks.asr import ASRTask

    assert asr_inference.ASRTask is ASRTask
    assert asr_inference.Speech2Text.__module__ == "espnet2.bin.asr_inference"


def write_scp(path, waves):
    lines = []
    for i, wave in enumerate(waves):
        soundfile.write(path / f"u{i}.wav", (wave.numpy() * 20000).astype(np.int16), 16000)
        lines.append(f"u{i} {path}/u{i}.wav\n")
    (path / "wav.scp").write_text("".join(lines))
    return f"{path}/wav.scp,speech,sound"


@pytest.mark.parametrize("batch_size", [pytest.param("1", marks=pytest.mark.slow), "2"])
def test_command_line(lively, tmp_path, waves, batch_size):
    data = write_scp(tmp_path, waves[:3])
    command.main(
        f"--model-dir {lively} --language cs --beam_size 3 --maxlenratio=-{LIMIT} --num_workers 0 "
        f"--batch-size {batch_size} --data_path_and_name_and_type {data} "
        f"--output_dir {tmp_path}/out --log_level ERROR".split()
    )
    speech2text = espnet_plugin.Speech2Text(
        model_dir=lively, language="cs", beam_size=3, maxlenratio=-LIMIT
    )
    lines = (tmp_path / "out" / "1best_recog" / "text").read_text().splitlines()
    for i, line in enumerate(lines):
        wave, _ = soundfile.read(tmp_path / f"u{i}.wav", dtype="float32")
        assert line == f"u{i} {speech2text(wave)[0][0]}"
    assert len(lines) == 3


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(speech2text, lively, waves, dtype):
    half = espnet_plugin.Speech2Text(
        model_dir=lively, language="cs", beam_size=3, maxlenratio=-LIMIT, dtype=dtype
    )
    assert {p.dtype for p in half.asr_model.parameters()} == {getattr(torch, dtype)}
    ours, theirs = half.asr_model.log_mel, speech2text.asr_model.log_mel
    assert torch.equal(ours.filters, theirs.filters) and torch.equal(ours.window, theirs.window)
    (text, _, ids, _), *_ = half(waves[0])
    assert ids and text == half.asr_model.prompt.decode(ids)


def test_backend(lively, tmp_path, waves):
    data = write_scp(tmp_path, waves[:1])
    with pytest.raises(ValueError, match="ctranslate2 is not available yet"):
        command.main(
            f"--model_dir {lively} --backend ctranslate2 --data_path_and_name_and_type {data} "
            f"--output_dir {tmp_path}/out".split()
        )


def test_scale_and_form_of_the_audio(speech2text, waves):
    """ESPnet's `kaldi_ark` gives 16-bit integers; as they are, they sound like noise."""
    short = (waves[1].clamp(-1, 1) * 32767).round()
    heard = speech2text((short / 32768).numpy())[0]
    for same in (short.short().numpy(), short.long(), (short / 32768).double()):
        assert speech2text(same)[0][:3] == heard[:3]
        assert speech2text([same])[0][0][:3] == heard[:3]
    lengths = torch.tensor([len(short)])
    assert speech2text.batch_decode(short.short()[None], lengths)[0][0][:3] == heard[:3]
    for bad, message in (
        (short.numpy(), "expected within -1..1"),
        (torch.stack((waves[1], waves[1]), 1), r"shape \(6400, 2\), not \(samples,\)"),
        (waves[1][None], "one channel is heard"),
        (waves[1] * float("nan"), "NaN or Inf"),
        ([waves[0], torch.stack((waves[1], waves[1]), 1)], "utterance 1 has the shape"),
        ("a.wav", "has the shape"),
    ):
        with pytest.raises(ValueError, match=message):
            speech2text(bad)


@pytest.mark.parametrize("option", ["beam_size", "nbest"])
def test_at_least_one_hypothesis(lively, option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1, got 0"):
        espnet_plugin.Speech2Text(model_dir=lively, **{option: 0})


def test_recordings_are_checked_before_the_model_is_loaded(tmp_path, waves, monkeypatch):
    data = write_scp(tmp_path, waves[:2])
    for path, samples, rate in (
        ("u1.wav", np.zeros(800), 8000),
        ("u2.wav", np.zeros((1600, 2)), 16000),
        ("u3.wav", np.zeros(481_000), 16000),
        ("u4.wav", np.zeros(0), 16000),
    ):
        soundfile.write(tmp_path / path, samples, rate)
    scp = tmp_path / "wav.scp"
    scp.write_text("".join(f"u{i} {tmp_path}/u{i}.wav\n" for i in range(6)) + "u6 cat x |\n")
    run = f"--model_dir none --ngpu 0 --data_path_and_name_and_type {data} --output_dir {tmp_path}"
    with pytest.raises(ValueError) as error:
        command.main(run.split())
    lines = str(error.value).splitlines()
    for number, (line, found) in enumerate(
        zip(
            lines,
            ("8000 Hz; 16000", "2 channels", "30.1 s; at most 30 s", "no samples", "no such file"),
            strict=True,
        ),
        2,
    ):
        assert line.startswith(f"{scp}:{number}: utterance u{number - 1}: ") and found in line
    (tmp_path / "keys").write_text("u0 x\n")
    with pytest.raises(FileNotFoundError, match="none: no such model"):
        command.main([*run.split(), "--key_file", f"{tmp_path}/keys"])
    scp.unlink()
    with pytest.raises(FileNotFoundError, match="wav.scp: no such file"):
        command.main(run.split())
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="--ngpu 1, but torch sees no GPU"):
        command.main(run.replace("--ngpu 0", "--ngpu 1").split())


def test_dashes_and_underscores_alike():
    from espnet_plugin.decode.inference import underscores

    given = ["--a-b", "x-y", "--c-d=e-f", "-h", "--no dashes-here"]
    assert underscores(given) == ["--a_b", "x-y", "--c_d=e-f", "-h", "--no dashes-here"]
