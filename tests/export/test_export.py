"""Exports through the real programs: read back, decoded, refused where they differ."""

import dataclasses
import os
import shutil
import sys

import pytest
import soundfile
import torch

from espnet_plugin import checkpoint as ck
from espnet_plugin.bin import export as command
from espnet_plugin.export import export_model, parse_targets, runtimes, target
from espnet_plugin.export import openai as openai_format
from espnet_plugin.export.audio import clips_hash, clips_of, spread
from espnet_plugin.export.matrix import round_trips
from espnet_plugin.export.tensors import compare_weights
from espnet_plugin.importers import import_model, read_source
from espnet_plugin.importers.openai import to_hugging_face_name


def quiet(_: str) -> None:
    pass


def refuse(*_: object) -> list[str]:
    raise AssertionError("nothing was to be decoded")


@pytest.mark.parametrize("name", ["hf", "openai", "ct2"])
def test_round_trip(name, whisper_dir, exported, verifier, tmp_path, monkeypatch):
    """Kept types: identical texts in the format's own program, identical bits on the way back."""
    made, output = target(name), exported[name]
    record = ck.read_json(output / "export.json")
    checked = record["verification"]
    assert checked["differences"] == [] and checked["words"] >= 8 and checked["utterances"] == 2
    assert checked["runtime"].startswith(made.format.runtime) and checked["allowed_percent"] == 0
    assert record["weights"]["identical"] and record["format"] == name
    assert {n: ck.sha256_file(output / n) for n in record["files"]} == record["files"]
    if name != "hf":  # that comes back from the hub in test_publish
        back = import_model(str(output), tmp_path / "back", log=quiet)
        assert ck.tensor_hashes(back) == ck.tensor_hashes(whisper_dir)
        for file in ("generation_config.json", "tokenizer.json", "preprocessor_config.json"):
            assert (back / file).read_bytes() == (whisper_dir / file).read_bytes()
        assert set(ck.read_json(back / "import.json")["files"]) <= set(record["files"])
    monkeypatch.setitem(runtimes.RUNTIMES, name, refuse)  # done already: nothing happens
    path = export_model(whisper_dir, made, output, verifier, quiet)
    assert path == output / (made.format.file or "")


@pytest.mark.parametrize(
    ("name", "dtype", "bound"),
    [
        ("hf", "float16", 2**-11),
        ("hf", "bfloat16", 2**-8),
        ("openai", "float16", 2**-11),
        ("ct2", "int8_float16", 1 / 254 + 2**-11),
    ],
)
def test_rounded_weights(name, dtype, bound, whisper_dir, tmp_path):
    """The documented tolerance of the weights is that of the types, and it is reached."""
    made = target(name, dtype)
    path = export_model(whisper_dir, made, tmp_path / "out", None, quiet)
    found = compare_weights(whisper_dir, path, made)
    assert not found.identical and bound / 8 < found.error <= bound + 1e-6
    state, model = read_source(str(tmp_path / "out"), log=quiet).state, ck.load_state(whisper_dir)
    if not dtype.startswith("int8"):
        rounded = {n: t.to(getattr(torch, dtype)) for n, t in model.items()}
        assert all(torch.equal(state[n].to(rounded[n].dtype), rounded[n]) for n in model)
    record = ck.read_json(tmp_path / "out" / "export.json")
    assert record["verification"] is None and record["weights"]["error"] == found.error


def test_integers(whisper_dir, verifier, tmp_path):
    """A random model has close calls, so a few words may differ; the record says which."""
    loose = dataclasses.replace(verifier, tolerance=60.0)
    export_model(whisper_dir, target("ct2", "int8"), tmp_path / "out", loose, quiet)
    record = ck.read_json(tmp_path / "out" / "export.json")
    assert 1 / 2032 < record["weights"]["error"] <= 1 / 254 + 1e-6
    checked = record["verification"]
    assert checked["percent"] <= 60 and checked["allowed_percent"] == 60
    assert bool(checked["differences"]) == (checked["words_differing"] > 0)


def test_what_openai_whisper_cannot_express(tiny_whisper, tmp_path):
    path = tmp_path / "whisper.pt"
    with pytest.raises(ValueError, match=r"cannot express encoder_ffn_dim 32 of config\.json"):
        export_model(tiny_whisper, target("openai"), path, None, quiet)
    for wrong, name in ((path, "ct2"), (tmp_path / "x.zip", "openai")):
        with pytest.raises(ValueError, match=f"an export to {name} is a "):
            export_model(tiny_whisper, target(name), wrong, None, quiet)
    config = {**ck.load_config(tiny_whisper), "activation_function": "relu"}
    with pytest.raises(ValueError, match="openai-whisper cannot express activation_function 're"):
        openai_format.dimensions(config)
    with pytest.raises(ValueError, match="vocabulary mismatch: 51870 tokens"):
        openai_format.dimensions({**ck.load_config(tiny_whisper), "vocab_size": 51870})
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["openai", "ct2"])
def test_large_v3_sizes(name, verifier, tmp_path):
    """128 mel bins and 51 866 tokens."""
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    model = build_tiny_whisper(tmp_path / "v3", n_mels=128, vocab_size=51866, ffn=64)
    export_model(model, target(name), tmp_path / "out", verifier, quiet)
    record = ck.read_json(tmp_path / "out" / "export.json")
    assert record["verification"]["differences"] == [] and record["weights"]["identical"]


def test_one_file(whisper_dir, tmp_path):
    path = tmp_path / "deep" / "tuned.pt"
    assert export_model(whisper_dir, target("openai"), path, None, quiet) == path
    assert sorted(os.listdir(path.parent)) == ["tuned.pt", "tuned.pt.json"]
    assert ck.read_json(f"{path}.json")["files"] == {"whisper.pt": ck.sha256_file(path)}
    said: list[str] = []
    export_model(whisper_dir, target("openai"), path, None, said.append)
    assert said == [f"{path}: exported already"]
    assert read_source(str(path), log=quiet).generation["alignment_heads"] == [[1, 0]]


def test_names_of_openai_whisper():
    from whisper.model import ModelDimensions, Whisper

    dims = ModelDimensions(80, 1500, 16, 2, 2, 51865, 448, 16, 2, 2)
    for name in Whisper(dims).state_dict():
        assert openai_format.from_hugging_face_name(to_hugging_face_name(name)) == name
    with pytest.raises(ValueError, match="no tensor like proj_out.weight"):
        openai_format.from_hugging_face_name("proj_out.weight")


def test_other_texts_refuse_the_export(whisper_dir, verifier, tmp_path, monkeypatch):
    model = verifier.expected(whisper_dir)[1]
    assert len(set(" ".join(model).split())) > 8  # the texts depend on the audio
    other = [model[0] + " more words", model[1]]
    monkeypatch.setitem(runtimes.RUNTIMES, "openai", lambda *_: other)
    with pytest.raises(ValueError, match=r"differs from .* in 2 of \d+ words") as caught:
        export_model(whisper_dir, target("openai"), tmp_path / "out", verifier, quiet)
    text = str(caught.value)
    assert "0 % are allowed (--tolerance). Nothing was exported." in text
    assert f"  utt-1\n    model:  {model[0]}\n    export: {other[0]}" in text
    assert "utt-2" not in text and os.listdir(tmp_path) == []


def test_other_weights_refuse_the_export(whisper_dir, verifier, tmp_path, monkeypatch):
    def write(model_dir, output, dtype):
        original(model_dir, output, dtype)
        data = torch.load(output / "whisper.pt", weights_only=True)
        data["model_state_dict"]["decoder.ln.bias"][3] += 1e-6
        torch.save(data, output / "whisper.pt")

    original = openai_format.write
    monkeypatch.setattr(openai_format, "write", write)
    with pytest.raises(ValueError, match="model.decoder.layer_norm.bias: values are not the mod"):
        export_model(whisper_dir, target("openai"), tmp_path / "out", verifier, quiet)
    assert os.listdir(tmp_path) == []


def test_values_that_do_not_fit(whisper_dir, tmp_path):
    state = ck.load_state(whisper_dir)
    state["model.encoder.conv1.bias"][0] = 1e6
    large = ck.save_model_dir(state, whisper_dir, tmp_path / "large")
    with pytest.raises(ValueError, match="conv1.bias: values do not fit float16; choose another"):
        export_model(large, target("hf", "float16"), tmp_path / "out", None, quiet)
    assert os.listdir(tmp_path) == ["large"]


def test_a_model_that_nothing_loads_is_not_exported(whisper_dir, tmp_path):
    state = ck.load_state(whisper_dir)
    del state["model.decoder.layers.0.fc1.weight"]
    broken = tmp_path / "broken"
    shutil.copytree(whisper_dir, broken)
    ck.write_safetensors(broken / ck.WEIGHTS, state)
    with pytest.raises(ValueError, match="broken: 1 tensors are missing, first model.decoder.lay"):
        export_model(broken, target("hf"), tmp_path / "out", None, quiet)
    assert not (tmp_path / "out").exists()


def test_faster_whisper_opens_files(tmp_path):
    """As the model card tells its readers to; exports are verified with samples."""
    from faster_whisper.audio import decode_audio

    soundfile.write(tmp_path / "audio.wav", [0.5] * 160, 16000)
    assert decode_audio(str(tmp_path / "audio.wav")).tolist() == pytest.approx([0.5] * 160)


def test_missing_programs_are_named(whisper_dir, verifier, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "whisper", None)
    message = "openai-whisper, which openai is verified with, is not installed .* or export with --"
    with pytest.raises(ValueError, match=message):
        export_model(whisper_dir, target("openai"), tmp_path / "out", verifier, quiet)
    monkeypatch.setitem(sys.modules, "ctranslate2.converters", None)
    with pytest.raises(ValueError, match="CTranslate2 is not installed"):
        export_model(whisper_dir, target("ct2"), tmp_path / "out", None, quiet)
    assert os.listdir(tmp_path) == []


def test_what_is_there_is_not_overwritten(whisper_dir, tmp_path, verifier, monkeypatch):
    output, made = tmp_path / "out", target("hf")
    monkeypatch.setitem(runtimes.RUNTIMES, "hf", lambda *_: verifier.expected(whisper_dir)[1])
    model = ck.save_model_dir(ck.load_state(whisper_dir), whisper_dir, tmp_path / "model")
    export_model(model, made, output, None, quiet)
    with pytest.raises(ValueError, match="holds an export with dtype None, asked for 'float16'"):
        export_model(model, target("hf", "float16"), output, None, quiet)
    said: list[str] = []
    export_model(model, made, output, verifier, said.append)
    assert said == [f"{output}: exported already, now verified"]
    (output / "config.json").write_text("{}")
    with pytest.raises(ValueError, match=r"config\.json: missing or changed since the export"):
        export_model(model, made, output, None, quiet)
    state = ck.load_state(model)
    state[ck.EMBEDDING] += 1
    ck.write_safetensors(model / ck.WEIGHTS, state)
    with pytest.raises(ValueError, match="holds an export with model_sha256"):
        export_model(model, made, output, None, quiet)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("mine")
    with pytest.raises(ValueError, match="exists already"):
        export_model(model, made, tmp_path / "other", None, quiet)
    with pytest.raises(ValueError, match="is the model itself"):
        export_model(model, made, model, None, quiet)
    with pytest.raises(FileNotFoundError, match="nowhere: not a model directory"):
        export_model(tmp_path / "nowhere", made, output, None, quiet)


def test_shards_become_one_file(whisper_dir, tmp_path):
    from transformers import WhisperForConditionalGeneration

    sharded = tmp_path / "sharded"
    model = WhisperForConditionalGeneration.from_pretrained(whisper_dir)
    ck.save_model_dir(ck.load_state(whisper_dir), whisper_dir, sharded)
    (sharded / ck.WEIGHTS).unlink()
    model.save_pretrained(sharded, max_shard_size="1MB")
    assert len(list(sharded.glob("model-0*.safetensors"))) > 1
    path = export_model(sharded, target("hf"), tmp_path / "out", None, quiet)
    assert ck.tensor_hashes(path) == ck.tensor_hashes(whisper_dir)


def test_command(whisper_dir, tmp_path, capsys):
    options = ["--model", str(whisper_dir), "--verify", "false"]
    prefix = ["--output-prefix", str(tmp_path / "export_"), "--formats", "hf openai:float16"]
    command.main([*options, *prefix])
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == f"{tmp_path}/export_openai_float16: exported from {whisper_dir}, not decoded"
    assert sorted(os.listdir(tmp_path)) == ["export_hf", "export_openai_float16"]


def test_audio(whisper_dir, tmp_path):
    """Without sets, recordings of ESPnet's wheel; else utterances spread over each set."""
    clips = clips_of([], 3, whisper_dir, {"en": "en"})
    assert [clip.utt for clip in clips] == ["an251-fash-b", "cen7-fash-b", "cen8-mwhw-b"]
    assert {clip.code for clip in clips} == {"en"}
    assert all(clip.wave.dtype == "float32" and 0.01 < abs(clip.wave).max() <= 1 for clip in clips)
    assert clips_hash(clips) != clips_hash(clips[:2])
    assert (spread(8, 3), spread(3, 8), spread(2, 0)) == ([0, 2, 5], [0, 1, 2], [0, 1])
    data = tmp_path / "dump" / "test_cs"
    data.mkdir(parents=True)
    for i in range(3):
        soundfile.write(data / f"{i}.wav", clips[0].wave, 16000)
    n = len(clips[0].wave)
    tables = {"wav.scp": f"{data}/{{}}.wav", "text": "a", "utt2spk": "s", "utt2lang": "cs"}
    for name, value in (tables | {"utt2num_samples": str(n)}).items():
        rows = [f"s-{i} {value.format(i)}\n" for i in range(3)]
        (data / name).write_text("".join(rows))
    (data / "spk2utt").write_text("s s-0 s-1 s-2\n")
    found = clips_of([data], 2, whisper_dir, {"cs": "ms"})
    assert [(clip.utt, clip.code, len(clip.wave)) for clip in found] == [
        ("s-0", "ms", n),
        ("s-1", "ms", n),
    ]
    with pytest.raises(ValueError, match="test_cs: utterance s-0: language 'cs' is not in lang_t"):
        clips_of([data], 2, whisper_dir, {"en": "en"})


def test_settings(whisper_dir, verifier):
    settings = verifier.expected(whisper_dir)[0]
    suppressed = ck.read_json(whisper_dir / "generation_config.json")["suppress_tokens"]
    timestamps = set(range(50364, 51865))
    assert timestamps | set(suppressed) <= set(settings.banned) and 50257 not in settings.banned
    for wrong in (3, 300):
        with pytest.raises(ValueError, match=f"max_tokens is 4 to 224, got {wrong}"):
            runtimes.Settings.of(whisper_dir, wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "hf"], "give --format .* and --output, or --formats"),
        (["--formats", "hf"], "--formats needs --output_prefix"),
        (["--formats", "hf", "--format", "hf"], "give --formats and --output_prefix, or"),
        (["--format", "hf", "--output_prefix", "x"], "--output_prefix is for --formats"),
        (["--matrix", "x", "--output", "x"], "--matrix exports nothing"),
    ],
)
def test_wrong_options(options, message, tiny_whisper, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command.main(["--model", str(tiny_whisper), *options])
    assert os.listdir(tmp_path) == []


def test_table_of_ways(whisper_dir, verifier, monkeypatch):
    """Rows are exported and read back for real; only the decoding is told (see test_espnet)."""
    texts = verifier.expected(whisper_dir)[1]
    for name in runtimes.RUNTIMES:
        monkeypatch.setitem(runtimes.RUNTIMES, name, lambda *_: texts)
    monkeypatch.setitem(runtimes.RUNTIMES, "ct2", lambda *_: [texts[0], texts[1] + " more"])
    table = round_trips(whisper_dir, parse_targets(["ct2:float16"]), verifier, quiet)
    head, _, row, *_ = table.splitlines()
    assert head.split(" | ")[2:] == ["transformers", "openai-whisper", "faster-whisper", "ESPnet |"]
    n = sum(len(text.split()) for text in texts)
    assert row.startswith("| CTranslate2 float16 | within 4.")
    assert row.endswith(f"| identical | identical | **{100 / n:.1f} % differ** | identical |")
