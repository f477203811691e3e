import numpy as np
import pytest
import soundfile

from espnet_plugin.data import DataDir, read_table
from espnet_plugin.data.faults import Finding, read_findings
from espnet_plugin.data.filtering import Limits, filter_set
from espnet_plugin.data.formatting import format_set
from espnet_plugin.data.statistics import statistics
from espnet_plugin.data.tokens import TokenCounter


def make_set(path, utterances, extra=True):
    """Make data/<set>; `utterances`: id -> (seconds, text); the id seeds the noise up to ``=``."""
    audio = path.parent / "the audio"
    audio.mkdir(parents=True, exist_ok=True)
    wav = {}
    for utt, (seconds, _) in utterances.items():
        seed = list(utt.split("=")[0].encode())
        noise = np.random.default_rng(seed).normal(0, 1000, round(seconds * 16000))
        wav[utt] = str(audio / f"{utt}.wav")
        soundfile.write(wav[utt], noise.astype(np.int16), 16000)
    DataDir(
        path,
        wav,
        {utt: text for utt, (_, text) in utterances.items()},
        dict.fromkeys(utterances, "s"),
        {utt: "cs" for utt in utterances},
        extra={"utt2topic": dict.fromkeys(utterances, "food")} if extra else {},
    ).write(path)
    return path


UTTERANCES = {
    "s-1": (1.0, "saya nak kopi"),
    "s-2": (0.05, "too short"),
    "s-3": (30.5, "too long"),
    "s-4": (1.0, ""),
    "s-5": (1.0, "ha" + " ha" * 499),
    "s-6": (30.0, "exactly at the limit"),
    "s-7": (1.0, "twice"),
    "s-7=again": (1.0, "twice"),
    "s-8": (1.0, "twice"),  # other audio of the same length
    "s-9": (1.0, "saya nak kopi"),
}


@pytest.fixture
def dump(tmp_path):
    make_set(tmp_path / "data" / "train", UTTERANCES)
    result = format_set(tmp_path / "data" / "train", tmp_path / "raw" / "train", nj=1)
    assert result.found["over 30 s"] == ("kept", 1, "s-3")
    return tmp_path / "raw"


def test_filter(dump, tiny_whisper):
    result = filter_set(dump, "train", Limits(model=str(tiny_whisper)))
    assert result.dropped == {
        "duplicate": 1,
        "empty text": 1,
        "too long": 1,
        "too many tokens": 1,
        "too short": 1,
    }
    assert result.total == len(UTTERANCES) == result.kept + sum(result.dropped.values())
    data = DataDir.load(dump / "train")
    assert data.utterances == ["s-1", "s-6", "s-7", "s-8", "s-9"]
    assert list(data.extra["utt2topic"]) == data.utterances == list(data.num_samples)
    report = list(read_findings(dump / "train" / "dropped.tsv"))
    source = read_table(dump / "org/train/wav.scp")["s-2"]
    found = "0.050 s, at least 0.1 s is needed"
    assert report[0] == Finding("s-2", "too short", "left out", source, found)
    assert [(one.utterance, one.fault) for one in report[1:]] == [
        ("s-3", "too long"),
        ("s-4", "empty text"),
        ("s-5", "too many tokens"),
        ("s-7=again", "duplicate"),
    ]
    assert report[3].found.startswith("500 tokens, at most 442 are allowed")
    assert report[4].found == "text and audio of s-7"


def test_filter_again(dump, tiny_whisper):
    first = filter_set(dump, "train")
    assert first.kept == 6 and not first.done
    assert filter_set(dump, "train").done
    wider = filter_set(dump, "train", Limits(min_seconds=0.01))
    assert wider.kept == 7 and not wider.done  # from the originals, not from what was left
    # formatting again finds nothing to do and leaves the filtered set alone
    again = format_set(dump.parent / "data" / "train", dump / "train", nj=1)
    assert again.done and len(DataDir.load(dump / "train").text) == 7


def test_filter_after_new_data(dump):
    filter_set(dump, "train")
    make_set(dump.parent / "data" / "train", {"s-1": (1.0, "baru")}, extra=False)
    (dump.parent / "data" / "train" / "utt2topic").unlink()
    format_set(dump.parent / "data" / "train", dump / "train", nj=1)
    result = filter_set(dump, "train")
    assert (result.total, result.kept, result.done) == (1, 1, False)
    assert not (dump / "train" / "utt2topic").exists()  # the old one does not stay behind


def test_a_killed_filter_starts_from_the_originals(dump, monkeypatch):
    def killed(self, path):
        raise KeyboardInterrupt

    original = DataDir.write
    with monkeypatch.context() as patch:
        patch.setattr(
            DataDir,
            "write",
            lambda self, path: (original if "org" in str(path) else killed)(self, path),
        )
        with pytest.raises(KeyboardInterrupt):
            filter_set(dump, "train")
    (dump / "train" / "text").write_text("s-1 half of it\n")
    assert filter_set(dump, "train").total == len(UTTERANCES)
    assert DataDir.load(dump / "train").text["s-1"] == "saya nak kopi"


def test_strict(dump):
    with pytest.raises(
        ValueError, match=r"4 of 10 utterances cannot be trained on .*s-2 too short"
    ):
        filter_set(dump, "train", Limits(strict=True))
    assert len(DataDir.load(dump / "train").text) == len(UTTERANCES)


@pytest.mark.parametrize("name", ["test_cs", "eval", "my-test", "test2"])
def test_test_sets_are_refused(dump, name):
    with pytest.raises(ValueError, match="test sets are never filtered"):
        filter_set(dump, name)


def test_nothing_left(tmp_path):
    make_set(tmp_path / "data" / "valid", {"s-1": (0.05, "x")})
    format_set(tmp_path / "data" / "valid", tmp_path / "raw" / "valid", nj=1)
    with pytest.raises(ValueError, match=r"no utterance is left of 1: s-1 too short"):
        filter_set(tmp_path / "raw", "valid")


def test_unformatted_set(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"not a formatted set, .*format .stage 3. makes it"
    ):
        filter_set(tmp_path, "train")


def test_mistyped_set_names_the_nearest(dump, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"did you mean train\?"):
        filter_set(dump, "trian")
    with pytest.raises(FileNotFoundError, match=r"did you mean train\?"):
        statistics(dump, ["trains"], tmp_path / "stats")


@pytest.mark.parametrize(
    "limits", [{"min_seconds": 5, "max_seconds": 4}, {"max_seconds": 31}, {"prompt_tokens": 2}]
)
def test_bad_limits(limits):
    with pytest.raises(ValueError, match=r"min_seconds|prompt_tokens"):
        Limits(**limits)


def test_tokens_are_those_of_the_prompt(tiny_whisper):
    from espnet_plugin.prompt import PromptBuilder

    counter, prompt = TokenCounter(tiny_whisper), PromptBuilder(tiny_whisper)
    texts = ["Saya nak kopi-O.", "", " the  end ", "a <|endoftext|> b", "日本", "kanak-kanak 12.5"]
    assert counter.count(texts) == [len(prompt.text_ids(text, "cs")) for text in texts]
    assert (counter.vocab_size, counter.max_positions) == (51865, 448)


def test_what_the_filter_keeps_the_prompt_takes(tiny_whisper):
    from espnet_plugin.prompt import PromptBuilder

    prompt, room = PromptBuilder(tiny_whisper), 448 - Limits().prompt_tokens
    text = "ha " * room
    assert TokenCounter(tiny_whisper).count([text]) == [room]
    assert len(prompt.encode(text, "ms", times=(0.0, 30.0))) == 448
    with pytest.raises(ValueError, match="448"):
        prompt.encode(text + "ha", "ms", times=(0.0, 30.0))


def test_missing_model(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"tokenizer.json: no such file; a model directory is"
    ):
        TokenCounter(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not a tokenizer"):
        TokenCounter(tmp_path)


def test_statistics(dump, tiny_whisper, tmp_path):
    filter_set(dump, "train", Limits(model=str(tiny_whisper)))
    text = statistics(dump, ["train"], tmp_path / "stats", str(tiny_whisper))
    tokens = read_table(tmp_path / "stats" / "train" / "text_shape")
    samples = read_table(tmp_path / "stats" / "train" / "speech_shape")
    assert samples == {"s-1": "16000", "s-6": "480000"} | dict.fromkeys(
        ["s-7", "s-8", "s-9"], "16000"
    )
    assert all(shape.endswith(",51865") for shape in tokens.values()) and len(tokens) == 5
    total = sum(int(shape.split(",")[0]) for shape in tokens.values())
    assert text.splitlines()[2] == f"| train | 5 | 1 | 0.01 | 30.0 | 12 | {total} | cs 5 |"
    assert text in (tmp_path / "stats" / "README.md").read_text()
    statistics(dump, ["train"], tmp_path / "stats")  # without a model: no stale shapes
    assert not (tmp_path / "stats" / "train" / "text_shape").exists()
