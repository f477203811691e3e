"""Importing from each format ends in the same tensors; what is wrong is named."""

import os
import shutil

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.bin import import_model as command
from espnet_plugin.importers import RECORD, import_model, read_source


def quiet(_: str) -> None:
    pass


def openai_state(directory):
    """The state of a Hugging Face directory under openai-whisper's names."""
    import torch
    from whisper.model import ModelDimensions, Whisper

    from espnet_plugin.importers.openai import to_hugging_face_name

    c = ck.load_config(directory)
    dims = ModelDimensions(
        n_mels=c["num_mel_bins"],
        n_vocab=c["vocab_size"],
        n_audio_ctx=c["max_source_positions"],
        n_audio_state=c["d_model"],
        n_audio_head=c["encoder_attention_heads"],
        n_audio_layer=c["encoder_layers"],
        n_text_ctx=c["max_target_positions"],
        n_text_state=c["d_model"],
        n_text_head=c["decoder_attention_heads"],
        n_text_layer=c["decoder_layers"],
    )
    # Not load_state_dict: the fixture's feed-forward is narrower than openai-whisper's.
    model = Whisper(dims)
    hf = ck.load_state(directory)
    state = {name: hf[to_hugging_face_name(name)] for name in model.state_dict()}
    assert len(state) == len(hf)
    with torch.no_grad():
        for name, tensor in state.items():
            *path, last = name.split(".")
            setattr_tensor(model.get_submodule(".".join(path)), last, tensor)
    return dims, state, model.eval()


def setattr_tensor(module, name, tensor):
    import torch

    if name in module._buffers:
        module._buffers[name] = tensor
    else:
        module._parameters[name] = torch.nn.Parameter(tensor)


@pytest.mark.parametrize(("mels", "size"), [(80, 51865), (128, 51866)])
def test_logits_equal_openai(mels, size, tiny_whisper, tiny_whisper_v3):
    import torch
    from transformers import WhisperForConditionalGeneration

    directory = tiny_whisper if size == 51865 else tiny_whisper_v3
    _, _, theirs = openai_state(directory)
    ours = WhisperForConditionalGeneration.from_pretrained(directory).eval()
    torch.manual_seed(0)
    mel, tokens = torch.randn(2, mels, 3000), torch.randint(0, size, (2, 9))
    with torch.no_grad():
        expected = theirs(mel, tokens)
        found = ours(input_features=mel, decoder_input_ids=tokens).logits
    assert expected.std() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-4)


def test_hugging_face_directory(tiny_whisper, tmp_path):
    from transformers import WhisperForConditionalGeneration, WhisperProcessor

    output = import_model(str(tiny_whisper), tmp_path / "a b" / "out", log=quiet)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(tiny_whisper)
    _, info = WhisperForConditionalGeneration.from_pretrained(output, output_loading_info=True)
    assert not any(info.values())
    processor = WhisperProcessor.from_pretrained(output)
    assert processor.feature_extractor.feature_size == 80
    assert len(processor.tokenizer) == 51865
    assert (output / "tokens.txt").read_bytes() == (tiny_whisper / "tokens.txt").read_bytes()
    record = ck.read_json(output / RECORD)
    assert record["source"] == str(tiny_whisper)
    assert record["files"] == {ck.WEIGHTS: ck.sha256_file(tiny_whisper / ck.WEIGHTS)}
    assert record["fp16_tensor_hash"] == ck.fp16_tensor_hash(ck.load_state(output))
    assert record["versions"]["transformers"]
    assert os.listdir(output.parent) == ["out"]


@pytest.mark.parametrize("form", ["shards", "bin", "bare", "explicit output"])
def test_other_hugging_face_forms(form, make_whisper):
    import torch
    from transformers import WhisperForConditionalGeneration

    directory = make_whisper("hf")
    state = ck.load_state(directory)
    (directory / ck.WEIGHTS).unlink()
    if form == "shards":
        config = WhisperForConditionalGeneration.config_class.from_pretrained(directory)
        model = WhisperForConditionalGeneration(config)
        model.load_state_dict({**state, ck.OUTPUT: state[ck.EMBEDDING]})
        model.save_pretrained(directory, max_shard_size="1MB")
        assert len(list(directory.glob("model-0*.safetensors"))) > 1
    elif form == "bin":
        torch.save({**state, ck.OUTPUT: state[ck.EMBEDDING]}, directory / "pytorch_model.bin")
    elif form == "bare":
        bare = {name.removeprefix("model."): t for name, t in state.items()}
        ck.write_safetensors(directory / ck.WEIGHTS, bare)
    else:
        whole = {**state, ck.OUTPUT: state[ck.EMBEDDING]}
        ck.write_safetensors(directory / ck.WEIGHTS, whole)
    found = read_source(str(directory), log=quiet).state
    assert {n: t for n, t in found.items() if n != ck.OUTPUT}.keys() == state.keys()
    assert all(torch.equal(found[name], state[name]) for name in state)


def test_dtype(tiny_whisper, tmp_path):
    output = import_model(str(tiny_whisper), tmp_path / "out", dtype="float16", log=quiet)
    assert {str(t.dtype) for t in ck.load_state(output).values()} == {"torch.float16"}
    assert ck.load_config(output)["dtype"] == "float16"
    with pytest.raises(ValueError, match="dtype 'int8', allowed"):
        import_model(str(tiny_whisper), tmp_path / "other", dtype="int8", log=quiet)


def test_settings_of_a_fine_tuned_model_are_kept(make_whisper, tmp_path):
    directory = make_whisper("hf")
    settings = {"suppress_tokens": [1], "alignment_heads": [[1, 0]], "lang_to_id": None}
    ck.write_json(directory / "generation_config.json", settings)
    config = ck.read_json(directory / "config.json")
    ck.write_json(
        directory / "config.json", {**config, "dropout": 0.1, "forced_decoder_ids": [[1, 2]]}
    )
    output = import_model(str(directory), tmp_path / "out", log=quiet)
    found = ck.read_json(output / "generation_config.json")
    assert found["suppress_tokens"] == [1] and found["alignment_heads"] == [[1, 0]]
    assert found["lang_to_id"]["<|ms|>"] == 50282  # completed
    config = ck.load_config(output)
    assert config["dropout"] == 0.1 and "forced_decoder_ids" not in config


def test_openai_checkpoint(tmp_path):
    import torch

    # openai-whisper's feed-forward is 4 times as wide as the model.
    from tests.fixtures.tiny_whisper import build_tiny_whisper

    directory = build_tiny_whisper(tmp_path / "hf", n_mels=128, vocab_size=51866, ffn=64)
    dims, state, _ = openai_state(directory)
    path = tmp_path / "tuned.pt"
    torch.save({"dims": vars(dims), "model_state_dict": state}, path)
    output = import_model(str(path), tmp_path / "out", log=quiet)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(directory)
    ours, theirs = ck.load_config(output), ck.load_config(directory)
    keys = ("num_mel_bins", "vocab_size", "d_model", "encoder_ffn_dim", "decoder_attention_heads")
    assert [ours[k] for k in keys] == [theirs[k] for k in keys]
    for name in ("tokens.txt", "generation_config.json", "preprocessor_config.json"):
        assert (output / name).read_bytes() == (directory / name).read_bytes()
    assert ck.read_json(output / RECORD)["tokenizer"] == ["built from openai-whisper's vocabulary"]


def test_alignment_heads_of_released_models():
    from whisper import _MODELS

    from espnet_plugin.importers.openai import alignment_heads

    assert "base" in _MODELS
    expected = [[3, 1], [4, 2], [4, 3], [4, 7], [5, 1], [5, 2], [5, 4], [5, 6]]
    assert alignment_heads("base", 6, 8) == expected
    assert alignment_heads("base", 4, 6) is None
    assert alignment_heads("my-model", 6, 8) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model": 1}, "expected 'dims' and 'model_state_dict', found model"),
        ({"dims": {"n_mels": 80}, "model_state_dict": {}}, "dims differ .* in n_audio_ctx"),
        (b"no checkpoint", "not a checkpoint of plain tensors"),
        (print, "not a checkpoint of plain tensors"),  # code is never unpickled
    ],
)
def test_wrong_pt_files(content, message, tmp_path):
    import torch

    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        import_model(str(path), tmp_path / "out", log=quiet)
    assert not (tmp_path / "out").exists()


def test_english_only_models_are_refused(tmp_path):
    import torch

    from espnet_plugin.importers.openai import DIMS

    path = tmp_path / "base.en.pt"
    torch.save({"dims": {**dict.fromkeys(DIMS, 8), "n_vocab": 51864}, "model_state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"base\.en\.pt: vocabulary mismatch.*English-only"):
        import_model(str(path), tmp_path / "out", log=quiet)


def test_unusable_directories(make_whisper, tmp_path):
    directory = make_whisper("hf")
    state = ck.load_state(directory)

    def fails(error, message):
        with pytest.raises(error, match=message):
            import_model(str(directory), tmp_path / "out", log=quiet)
        assert sorted(os.listdir(tmp_path)) == ["hf"]  # nothing half-written

    name = "model.encoder.conv1.weight"
    ck.write_safetensors(directory / ck.WEIGHTS, {n: t for n, t in state.items() if n != name})
    fails(ValueError, f"1 tensors are missing, first {name}")
    rows = {**state, ck.EMBEDDING: state[ck.EMBEDDING][:-1]}
    ck.write_safetensors(directory / ck.WEIGHTS, rows)
    fails(ValueError, "vocabulary mismatch: the token embedding has 51864 rows")
    untied = {**state, ck.OUTPUT: state[ck.EMBEDDING] + 1}
    ck.write_safetensors(directory / ck.WEIGHTS, untied)
    fails(ValueError, "untied")
    ck.write_safetensors(directory / ck.WEIGHTS, state)
    tokenizer = (directory / "tokenizer.json").read_bytes()
    (directory / "tokenizer.json").unlink()
    fails(FileNotFoundError, r"no tokenizer\.json")
    (directory / "tokenizer.json").write_bytes(tokenizer)
    (directory / ck.WEIGHTS).unlink()
    fails(FileNotFoundError, r"none of model\.safetensors")
    (directory / "config.json").unlink()
    fails(FileNotFoundError, r"config\.json: no such file")
    (directory / "adapter_config.json").write_text("{}")
    fails(ValueError, "an adapter")


@pytest.mark.parametrize(
    ("source", "error", "message"),
    [
        ("/no/such/dir", FileNotFoundError, "/no/such/dir: no such file or directory"),
        ("./nowhere", FileNotFoundError, "no such file or directory"),
        ("x.pt", FileNotFoundError, r"x\.pt: no such file or directory"),
        ("whisper-base", ValueError, "unknown source 'whisper-base'; a source is a hub id"),
        (__file__, ValueError, "unknown kind of file"),
    ],
)
def test_unknown_sources(source, error, message):
    with pytest.raises(error, match=message):
        read_source(source, log=quiet)


def test_revision_is_for_the_hub(tiny_whisper):
    with pytest.raises(ValueError, match="--revision v1 is for a hub id"):
        read_source(str(tiny_whisper), "v1", quiet)


def test_finished_imports_are_kept(make_whisper, tmp_path):
    directory, output, said = make_whisper("hf"), tmp_path / "out", []
    import_model(str(directory), output, log=quiet)
    before = (output / RECORD).stat().st_mtime_ns
    import_model(str(directory), output, log=said.append)
    assert said == [f"{output}: already imported from {directory}"]
    assert (output / RECORD).stat().st_mtime_ns == before
    with pytest.raises(ValueError, match="dtype 'float32', asked for 'float16'"):
        import_model(str(directory), output, dtype="float16", log=quiet)
    with pytest.raises(ValueError, match="holds an import with source"):
        import_model("demo", output, log=quiet)
    state = ck.load_state(directory)
    state[ck.EMBEDDING] += 1
    ck.write_safetensors(directory / ck.WEIGHTS, state)
    with pytest.raises(ValueError, match="whose files have changed since"):
        import_model(str(directory), output, log=quiet)


def test_other_directories_are_not_overwritten(tiny_whisper, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(tiny_whisper, output)
    with pytest.raises(ValueError, match="exists already"):
        import_model(str(tiny_whisper), output, log=quiet)


def test_command(tiny_whisper, tmp_path, capsys):
    output = tmp_path / "out"
    assert command.main(["--source", str(tiny_whisper), "--output", str(output)]) == 0
    assert f"{output}: imported from {tiny_whisper}" in capsys.readouterr().out
    assert ck.model_dir_exists(output)
