"""CTranslate2's files, written by CTranslate2 itself, and damaged ones."""

import struct

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.importers import ct2, import_model

pytest.importorskip("ctranslate2")


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def converted(tiny_whisper, tmp_path_factory):
    """The tiny model by CTranslate2's own converter, in float32 and without a tokenizer file."""
    from ctranslate2.converters import TransformersConverter

    directory = tmp_path_factory.mktemp("ct2") / "f32"
    TransformersConverter(str(tiny_whisper)).convert(str(directory))
    return directory


def test_import_of_a_converted_model(converted, tiny_whisper, tmp_path):
    output = import_model(str(converted), tmp_path / "out", log=quiet)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(tiny_whisper)
    ours, theirs = ck.load_config(output), ck.load_config(tiny_whisper)
    keys = ("d_model", "encoder_layers", "decoder_attention_heads", "decoder_ffn_dim", "vocab_size")
    assert [ours[k] for k in keys] == [theirs[k] for k in keys]
    for name in ("tokens.txt", "preprocessor_config.json"):
        assert (output / name).read_bytes() == (tiny_whisper / name).read_bytes()
    settings = ck.read_json(output / "generation_config.json")
    # CTranslate2 writes the last half of the layers where the heads are unknown.
    assert settings.pop("alignment_heads") == [[1, 0], [1, 1]]
    assert settings == ck.read_json(tiny_whisper / "generation_config.json")


@pytest.mark.parametrize("kind", ["float16", "int8"])
def test_quantisations(kind, converted, tiny_whisper, tmp_path):
    import torch
    from ctranslate2.converters import TransformersConverter

    TransformersConverter(str(tiny_whisper)).convert(str(tmp_path / "m"), quantization=kind)
    source, model = ct2.read_ct2(tmp_path / "m"), ck.load_state(tiny_whisper)
    if kind == "float16":
        assert ck.fp16_tensor_hash(source.state) == ck.fp16_tensor_hash(model)
        return
    assert "widened from int8: rounded" in source.notes["weights"]
    for name, tensor in model.items():  # half a step of 254, row by row
        rows = tensor.reshape(len(tensor), -1) if tensor.dim() > 1 else tensor[None]
        off = (source.state[name].reshape(rows.shape) - rows).abs().amax(1)
        assert torch.all(off <= rows.abs().amax(1) * (1 / 254 + 1e-6)), name


def test_integers_without_a_scale(converted):
    import torch

    v = ct2.read_model_bin(converted / "model.bin")
    name = "decoder/layer_0/ffn/linear_0/weight"
    with pytest.raises(ValueError, match=f"{name}: integers without {name}_scale"):
        ct2.widen_integers({name: v[name].to(torch.int8)})


def test_damaged_files(converted, tmp_path):
    path, whole = tmp_path / "model.bin", (converted / "model.bin").read_bytes()

    def fails(data, message):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=message):
            ct2.read_ct2(tmp_path)

    fails(whole[:-9], "ends within a tensor or name at byte")
    fails(whole[:100_000], "ends within a tensor or name at byte")
    fails(whole + b"x", "1 bytes follow the last tensor")
    fails(struct.pack("<I", 2) + whole[4:], r"version 6 \(found 2\)")
    fails(whole.replace(b"WhisperSpec", b"WhisperSpic", 1), "WhisperSpic revision 3, expected Whis")
    fails(b"", "ends within a tensor or name at byte 0")
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.bin: no such file"):
        ct2.read_ct2(tmp_path)


def test_variables_are_checked(converted):
    v = ct2.read_model_bin(converted / "model.bin")
    name = "decoder/layer_1/attention/linear_1/bias"
    bias = v[name].clone()
    bias[0] = 1.0  # the first half belongs to the keys
    with pytest.raises(ValueError, match=f"{name}: the key bias is not zero"):
        ct2.to_hugging_face({**v, name: bias})
    with pytest.raises(ValueError, match=f"tensor '{name}' is missing"):
        ct2.to_hugging_face({n: t for n, t in v.items() if n != name})
    with pytest.raises(ValueError, match="1 unknown tensors, first decoder/extra"):
        ct2.to_hugging_face({**v, "decoder/extra": bias})


def test_missing_encoder_positions_are_computed(converted, tiny_whisper):
    import torch

    from espnet_plugin.importers.source import sinusoids

    stored = ck.load_state(tiny_whisper)[ck.SINUSOIDS]
    torch.testing.assert_close(sinusoids(*stored.shape), stored)
    v = ct2.read_model_bin(converted / "model.bin")
    del v["encoder/position_encodings/encodings"]
    assert ck.SINUSOIDS not in ct2.to_hugging_face(v)
