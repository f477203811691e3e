"""The tokenizer: built from openai-whisper's file, completed, and equal to the original."""

import json

import pytest

from espnet_plugin import tokenizer as tk
from espnet_plugin.checkpoint import read_json

SENTENCES = [
    " the test of time",
    " saya nak pergi ke kedai, then balik lah!",
    " Tak tau lah, you decide: 50% or 12.30pm?",
    "t  the\n\n ...",
    " 你好吗 நன்றி naïve café",
    " don't I'll we've",
    "!",
]


@pytest.fixture(scope="module")
def openai():
    from whisper.tokenizer import get_tokenizer

    return {51865: get_tokenizer(True), 51866: get_tokenizer(True, num_languages=100)}


@pytest.mark.parametrize("size", [51865, 51866])
def test_equals_openai(size, openai, tiny_whisper, tiny_whisper_v3):
    from transformers import WhisperTokenizer

    directory = tiny_whisper if size == 51865 else tiny_whisper_v3
    ours = WhisperTokenizer.from_pretrained(directory)
    theirs = openai[size]
    for text in SENTENCES:
        assert ours.encode(text, add_special_tokens=False) == theirs.encode(text), text
    assert len(ours) == size
    for token, i in theirs.special_tokens.items():
        if token == "<|nospeech|>" and size == 51865:
            token = "<|nocaptions|>"
        assert ours.convert_tokens_to_ids(token) == i
    assert ours.all_special_ids[-1] == theirs.no_timestamps
    times = [theirs.sot, theirs.timestamp_begin, *theirs.encode(" saya"), size - 1]
    decoded = ours.decode(times, decode_with_timestamps=True)
    assert decoded == "<|startoftranscript|><|0.00|> saya<|30.00|>"


@pytest.mark.parametrize("size", [51865, 51866])
def test_generation_settings_equal_openai(size, openai, tiny_whisper, tiny_whisper_v3):
    directory = tiny_whisper if size == 51865 else tiny_whisper_v3
    settings = read_json(directory / "generation_config.json")
    t = openai[size]
    tasks = {t.sot, t.transcribe, t.translate, t.sot_lm, t.sot_prev, t.no_speech}
    assert settings["suppress_tokens"] == sorted(tasks | set(t.non_speech_tokens))
    assert settings["begin_suppress_tokens"] == [*t.encode(" "), t.eot]
    assert settings["lang_to_id"]["<|ms|>"] == t.special_tokens["<|ms|>"]
    assert len(settings["lang_to_id"]) == t.num_languages
    assert settings["task_to_id"] == {"transcribe": t.transcribe, "translate": t.translate}
    assert settings["no_timestamps_token_id"] == t.no_timestamps
    assert settings["decoder_start_token_id"] == t.sot
    assert settings["prev_sot_token_id"] == t.sot_prev


def test_the_file_alone_has_the_prompt(tiny_whisper):
    """Other runtimes read ``tokenizer.json`` without transformers."""
    from tokenizers import Tokenizer

    alone = Tokenizer.from_file(str(tiny_whisper / "tokenizer.json"))
    tokens = alone.encode(" saya").tokens
    assert tokens == ["<|startoftranscript|>", "<|notimestamps|>", "Ġsaya", "<|endoftext|>"]


def test_token_list(tiny_whisper):
    tokens = (tiny_whisper / "tokens.txt").read_text(encoding="utf-8").splitlines()
    assert len(tokens) == len(set(tokens)) == 51865
    assert all(token and token.split() == [token] for token in tokens)
    assert tokens[0] == "!" and tokens[50256] == "<|unused_50256|>"
    assert tokens[50257] == "<|endoftext|>" and tokens[51864] == "<|30.00|>"


def test_token_list_is_padded(tiny_whisper):
    tokenizer, _ = tk.read_tokenizer(tiny_whisper, 51865)
    assert tk.token_list(tokenizer, 51870)[51864:] == [
        "<|30.00|>",
        *(f"<|unused_{i}|>" for i in range(51865, 51870)),
    ]


@pytest.fixture
def broken(tiny_whisper, tmp_path):
    """A directory with nothing but a ``tokenizer.json`` like one of the demo's packages."""
    data = json.loads((tiny_whisper / "tokenizer.json").read_bytes())
    data["model"]["merges"] = data["model"]["merges"][1:]
    data["added_tokens"] = [t for t in data["added_tokens"] if t["id"] <= 50363]
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    return tmp_path


def test_incomplete_tokenizers_are_completed(broken, tiny_whisper):
    from transformers import WhisperTokenizer

    before = WhisperTokenizer.from_pretrained(broken)
    assert before.tokenize(" the") == ["Ġ", "the"] and len(before) == 50364
    fixed, changes = tk.read_tokenizer(broken, 51865)
    assert changes == ["merges added: 1 (first: Ġ + t)", "timestamp tokens added: 1501"]
    whole, none = tk.read_tokenizer(tiny_whisper, 51865)
    assert none == []
    assert fixed.backend_tokenizer.to_str() == whole.backend_tokenizer.to_str()
    assert fixed.all_special_ids == whole.all_special_ids


def test_own_tokens_of_a_fine_tuned_model_are_kept(tiny_whisper, tmp_path):
    from transformers import WhisperTokenizer

    tokenizer = WhisperTokenizer.from_pretrained(tiny_whisper, language="malay", task="transcribe")
    tokenizer.add_tokens(["<laugh>"])
    tokenizer.save_pretrained(tmp_path)
    found, changes = tk.read_tokenizer(tmp_path, 51872)
    assert changes == []
    assert found.convert_tokens_to_ids("<laugh>") == 51865
    assert (found.language, found.task) == ("malay", "transcribe")
    with pytest.raises(ValueError, match="vocabulary mismatch: 51866 tokens, the model has 51865"):
        tk.read_tokenizer(tmp_path, 51865)


def test_vocabulary_mismatches_are_named(tiny_whisper, tmp_path):
    with pytest.raises(ValueError, match="that of a model of 51865 tokens, this one has 51866"):
        tk.read_tokenizer(tiny_whisper, 51866)
    with pytest.raises(FileNotFoundError, match=r"no tokenizer\.json, nor vocab\.json"):
        tk.read_tokenizer(tmp_path, 51865)
    data = json.loads((tiny_whisper / "tokenizer.json").read_bytes())
    for token in data["added_tokens"]:
        if token["content"] in ("<|ms|>", "<|ta|>"):
            token["content"] = "<|ta|>" if token["content"] == "<|ms|>" else "<|ms|>"
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"id 50282 is '<\|ta\|>', not '<\|ms\|>'"):
        tk.read_tokenizer(tmp_path, 51865)


@pytest.mark.parametrize("size", [51864, 32000])
def test_other_vocabularies_are_refused(size):
    with pytest.raises(ValueError, match=f"vocabulary mismatch: {size} tokens, allowed are 51865"):
        tk.build_tokenizer(size)


def test_without_openai_whisper(monkeypatch):
    monkeypatch.setattr(tk.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(tk, "_byte_pairs", tk._byte_pairs.__wrapped__)  # not read earlier
    with pytest.raises(FileNotFoundError, match="pip install openai-whisper"):
        tk.build_tokenizer(51865)
