import json
import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch

from espnet_plugin.bin import decode as command
from espnet_plugin.checkpoint import load_state, read_json, save_model_dir
from espnet_plugin.data import write_table
from espnet_plugin.decode import runner
from espnet_plugin.decode.audio import batches, load_set, set_hash
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.plan import PARTIAL, System, jobs_of
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.decode.runner import decode_sets
from espnet_plugin.decode.workers import parts
from espnet_plugin.merge import merge

from .conftest import noise

LENGTHS = {
    "a": {"s1-1": 0.8, "s1-2": 0.3, "s2-1": 1.2, "s2-2": 0.5, "s2-3": 0.9},
    "b": {"t-1": 0.4, "t-2": 0.7},
}
OPTIONS = Options(max_tokens_per_second=4.0, on_loop="keep")


def write_set(path, lengths, lang="ms"):
    path.mkdir(parents=True)
    tables = {n: [] for n in ("wav.scp", "text", "utt2spk", "utt2lang", "utt2num_samples")}
    for seed, (utt, seconds) in enumerate(sorted(lengths.items())):
        wave = noise(seconds, seed).numpy()
        soundfile.write(path / f"{utt}.wav", (wave * 20000).astype(np.int16), 16000)
        for name, value in zip(
            tables,
            (path / f"{utt}.wav", "hello", utt.split("-")[0], lang, len(wave)),
            strict=True,
        ):
            tables[name].append(f"{utt} {value}\n")
    for name, lines in tables.items():
        (path / name).write_text("".join(lines))


@pytest.fixture(scope="module")
def dump(tmp_path_factory):
    path = tmp_path_factory.mktemp("dump dir") / "raw"  # with a space in its path
    for name, lengths in LENGTHS.items():
        write_set(path / name, lengths, "cs" if name == "a" else "en")
    return path


@pytest.fixture(scope="module")
def models(lively, tmp_path_factory):
    """`init`; `text` with another decoder; `full` with another encoder as well."""
    path = tmp_path_factory.mktemp("models")
    shutil.copytree(lively, path / "init")
    state = load_state(lively)
    state["model.decoder.layers.0.fc1.weight"] = state["model.decoder.layers.0.fc1.weight"] * 1.5
    save_model_dir(state, lively, path / "text")
    state["model.encoder.layers.0.fc1.weight"] = state["model.encoder.layers.0.fc1.weight"] * 1.5
    save_model_dir(state, lively, path / "full")
    return path


@pytest.fixture
def expdir(models, tmp_path):
    shutil.copytree(models, tmp_path / "exp")
    return tmp_path / "exp"


def texts(expdir, system, name, tag="greedy"):
    return (expdir / system / f"decode_{tag}" / name / "text").read_text()


def test_all_systems_and_sets(expdir, dump, monkeypatch, capsys):
    calls = {"encode": 0, "features": 0}
    for name in calls:
        original = getattr(Recognizer, name)

        def counted(self, *args, _name=name, _original=original):
            calls[_name] += 1
            return _original(self, *args)

        monkeypatch.setattr(Recognizer, name, counted)
    jobs = decode_sets(expdir, ["init", "text", "full"], ["a", "b"], dump, OPTIONS, batch_size=2)
    assert len(jobs) == 6
    # a has 3 batches, b has 1; init and text have the same encoder
    assert calls == {"features": 4, "encode": 8}
    for system in ("init", "text", "full"):
        alone = Recognizer(expdir / system, OPTIONS)
        for name in ("a", "b"):
            lines = texts(expdir, system, name).splitlines()
            assert [line.split()[0] for line in lines] == sorted(LENGTHS[name])
            for u, line in zip(load_set(dump, name), lines, strict=True):
                found = alone.text(alone([u.read()], [u.lang])[0])
                assert line == f"{u.utt} {found}".rstrip()
            info = read_json(expdir / system / "decode_greedy" / name / "decode.json")
            assert info["n_utt"] == len(LENGTHS[name]) and info["system"] == system
            assert info["audio_seconds"] == pytest.approx(sum(LENGTHS[name].values()), abs=1e-3)
            assert info["rtfx"] == pytest.approx(info["audio_seconds"] / info["seconds"], rel=0.05)
            assert info["n_length_limited"] == len(info["length_limited"]) > 0
            assert info["n_loops"] == len(info["loops"]) >= info["n_length_limited"]
            assert set(info["loops"].values()) == {"kept"}
            assert not (expdir / system / "decode_greedy" / name / PARTIAL).exists()
    assert len({texts(expdir, s, "a") for s in ("init", "text", "full")}) == 3
    out = capsys.readouterr().out
    assert out.count("times real time") == 6 and "ended by the length limit" in out


def test_decoded_already(expdir, dump, capsys):
    def again(systems=("init",), **options):
        merged = OPTIONS.__dict__ | options
        return [
            j.set_name for j in decode_sets(expdir, systems, ["a", "b"], dump, Options(**merged))
        ]

    assert again() == ["a", "b"]
    before = texts(expdir, "init", "a")
    record = expdir / "init/decode_greedy/a/decode.json"
    os.utime(record, (1, 1))
    assert again() == [] and capsys.readouterr().out.count("already decoded") == 2
    assert record.stat().st_mtime > 1  # for stage 13: it is not older than the model
    assert again(beam_size=2) == ["a", "b"]  # other options
    assert "have changed" in capsys.readouterr().out
    assert again() == ["a", "b"] and texts(expdir, "init", "a") == before
    state = load_state(expdir / "init")
    state["model.decoder.layers.1.fc2.weight"] *= -1
    save_model_dir(state, expdir / "init", expdir / "init")  # other weights
    assert again() == ["a", "b"] and texts(expdir, "init", "a") != before
    (expdir / "init" / "decode_greedy" / "b" / "text").write_text("t-1 tampered\n")
    assert again() == ["b"]


def test_other_audio_of_the_same_length_is_decoded_again(dump):
    before = load_set(dump, "b")
    write_table(dump / "b/utt2crc32", {u.utt: "0123abcd" for u in before})
    known = load_set(dump, "b")
    write_table(dump / "b/utt2crc32", {u.utt: "0123abce" for u in before})
    other = load_set(dump, "b")
    (dump / "b/utt2crc32").unlink()
    assert len({set_hash(found) for found in (before, known, other)}) == 3


def test_resumes_where_it_was_killed(expdir, dump, monkeypatch):
    decode_sets(expdir, ["init"], ["a"], dump, OPTIONS, tag="whole", batch_size=2)
    original = Recognizer.search
    searched = []

    def dying(self, memory, lengths, seconds, langs):
        if len(searched) == 2:
            raise KeyboardInterrupt
        searched.append(len(seconds))
        return original(self, memory, lengths, seconds, langs)

    monkeypatch.setattr(Recognizer, "search", dying)
    with pytest.raises(KeyboardInterrupt):
        decode_sets(expdir, ["init"], ["a"], dump, OPTIONS, batch_size=2)
    output = expdir / "init" / "decode_greedy" / "a"
    assert not (output / "text").exists()
    with open(output / PARTIAL, "a") as file:
        file.write('{"texts": {"s2-1": "half a li')  # cut off by the kill
    searched.clear()
    monkeypatch.setattr(Recognizer, "search", original)
    counted = []
    monkeypatch.setattr(
        Recognizer, "search", lambda self, *a: counted.append(len(a[2])) or original(self, *a)
    )
    decode_sets(expdir, ["init"], ["a"], dump, OPTIONS, batch_size=2)
    assert counted == [1]  # the last of three batches
    assert texts(expdir, "init", "a") == texts(expdir, "init", "a", "whole")
    assert not (output / PARTIAL).exists()


def test_partial_result_of_other_options_is_not_used(expdir, dump):
    output = expdir / "init" / "decode_greedy" / "a"
    output.mkdir(parents=True)
    entry = {"texts": {"s1-1": "wrong"}, "limited": [], "loops": {}, "seconds": 1.0}
    (output / PARTIAL).write_text(json.dumps({"model_hash": "x"}) + "\n" + json.dumps(entry) + "\n")
    decode_sets(expdir, ["init"], ["a"], dump, OPTIONS)
    assert "wrong" not in texts(expdir, "init", "a")


def test_result_does_not_depend_on_chunks_and_batches(expdir, dump, monkeypatch):
    decode_sets(expdir, ["init", "text"], ["a", "b"], dump, OPTIONS, tag="one", batch_size=7)
    monkeypatch.setattr(runner, "CHUNK_SECONDS", 1.0)
    decode_sets(expdir, ["init", "text"], ["a", "b"], dump, OPTIONS, tag="two", batch_size=2)
    for system in ("init", "text"):
        for name in ("a", "b"):
            assert texts(expdir, system, name, "one") == texts(expdir, system, name, "two")


@pytest.mark.slow
def test_processes_decode_what_one_process_does(expdir, dump, capsys, monkeypatch):
    options = {
        "init": OPTIONS,
        "text": OPTIONS,
        "full": replace(OPTIONS, max_tokens_per_second=5.0),
    }
    given = (expdir, ["init", "text", "full"], ["a", "b"], dump, options)
    decode_sets(*given, tag="one", batch_size=2)
    jobs = decode_sets(*given, tag="two", batch_size=2, workers=2)
    assert len(jobs) == 6 and all(job.complete for job in jobs)
    for system in ("init", "text", "full"):
        for name in ("a", "b"):
            assert texts(expdir, system, name, "one") == texts(expdir, system, name, "two")
            info = read_json(expdir / system / "decode_two" / name / "decode.json")
            assert info["workers"] == 2 and info["threads"] == max(1, torch.get_num_threads() // 2)
    assert "init/decode_two/a" in capsys.readouterr().out  # a worker's words reach the bar
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="take a GPU each"):
        decode_sets(*given, tag="three", device="cuda:0", workers=2)


def test_a_set_decoded_with_few_systems(expdir, dump, monkeypatch):
    decode_sets(expdir, ["init", "full"], ["a", "b"], dump, OPTIONS, tag="all")
    heard = []
    original = Recognizer.encode
    monkeypatch.setattr(
        Recognizer, "encode", lambda self, *its: heard.append(len(its[0])) or original(self, *its)
    )
    jobs = decode_sets(
        expdir, ["init", "text", "full"], ["a", "b"], dump, OPTIONS, only={"b": ["init"]}
    )
    assert {(job.system.name, job.set_name) for job in jobs} == {
        ("init", "a"),
        ("text", "a"),
        ("full", "a"),
        ("init", "b"),
    }
    assert sum(heard) == len(LENGTHS["a"]) * 2 + len(LENGTHS["b"])  # init's encoder is text's
    for job in jobs:
        if job.system.name != "text":
            expected = texts(expdir, job.system.name, job.set_name, "all")
            assert texts(expdir, job.system.name, job.set_name) == expected


def test_a_merge_in_memory_is_the_merge_on_disk(expdir, dump, capsys):
    merges = {"merge_": ("init", "full")}
    systems = ["init", "merge_0.4", "merge_0.70"]
    decode_sets(expdir, systems, ["a"], dump, OPTIONS, merges=merges)
    assert not (expdir / "merge_0.4/model.safetensors").exists()
    in_memory = texts(expdir, "merge_0.4", "a")
    shutil.rmtree(expdir / "merge_0.4")
    merge(expdir / "init", expdir / "full", expdir / "merge_0.4", ratio=0.4)
    decode_sets(expdir, ["merge_0.4"], ["a"], dump, OPTIONS)
    assert texts(expdir, "merge_0.4", "a") == in_memory
    # what was decoded from memory stays good once the model is written
    merge(expdir / "init", expdir / "full", expdir / "other", ratio=0.7)
    for file in (expdir / "other").iterdir():
        shutil.move(file, expdir / "merge_0.70")
    capsys.readouterr()
    assert not decode_sets(expdir, ["merge_0.70"], ["a"], dump, OPTIONS, merges=merges)
    assert "already decoded" in capsys.readouterr().out
    for name, message in (("merge_1.5", "outside|within"), ("merge_x", "not a model directory")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            decode_sets(expdir, [name], ["a"], dump, OPTIONS, merges=merges)
    with pytest.raises(FileNotFoundError, match=r"adapt_full.*and merge_0.4 is merged from it"):
        System.of(expdir.parent, "merge_0.4", {"merge_": ("adapt_full", "init")})


@pytest.mark.slow
def test_an_error_in_a_process_ends_the_run(expdir, dump, tmp_path):
    raw = shutil.copytree(dump, tmp_path / "raw")
    (raw / "b/wav.scp").write_text((raw / "b/wav.scp").read_text().replace(".wav", ".no"))
    with pytest.raises(ValueError, match="utterance t-[12].*no such file"):
        decode_sets(expdir, ["init", "full"], ["a", "b"], raw, OPTIONS, workers=2)


def test_what_a_process_takes_at_a_time(expdir, dump):
    data = {name: load_set(dump, name) for name in ("a", "b")}
    systems = [System.of(expdir, name) for name in ("full", "init", "text")]
    jobs = jobs_of(systems, data, "t", OPTIONS)
    found = [[(j.system.name, j.set_name) for j in part] for part in parts(jobs, 1)]
    assert found == [  # those that share an encoder first, as most work; the last one cut by set
        [("init", "a"), ("init", "b"), ("text", "a"), ("text", "b")],
        [("full", "a")],
        [("full", "b")],
    ]


def test_models_of_different_sizes(expdir, dump, tiny_whisper_v3):
    shutil.copytree(tiny_whisper_v3, expdir / "v3")
    decode_sets(expdir, ["init", "v3"], ["b"], dump, OPTIONS)
    alone = Recognizer(expdir / "v3", OPTIONS)
    for u, line in zip(load_set(dump, "b"), texts(expdir, "v3", "b").splitlines(), strict=True):
        assert line == f"{u.utt} {alone.text(alone([u.read()], [u.lang])[0])}".rstrip()


def test_beam_search_and_pad_30s(expdir, dump):
    options = Options(beam_size=3, pad="30s", max_tokens_per_second=2.0)
    decode_sets(expdir, ["init"], ["b"], dump, options, tag="beam")
    alone = Recognizer(expdir / "init", options)
    for u, line in zip(
        load_set(dump, "b"), texts(expdir, "init", "b", "beam").splitlines(), strict=True
    ):
        assert line == f"{u.utt} {alone.text(alone([u.read()], [u.lang])[0])}".rstrip()


def test_command_line(expdir, dump):
    command.main(
        f"--expdir|{expdir}|--systems|init text|--sets|a b|--dumpdir|{dump}|--tag|cli|"
        "--batch-size|1|--lang-tokens|en:en cs:ms|--device|cpu|--max_tokens_per_second|4|"
        "--only|a:text,merge_* b:init,te*".split("|")
    )
    assert not (expdir / "init" / "decode_cli" / "a").exists()
    assert texts(expdir, "text", "a", "cli").startswith("s1-1 ")
    assert texts(expdir, "text", "b", "cli").startswith("t-1 ")
    info = read_json(expdir / "init" / "decode_cli" / "b" / "decode.json")
    assert info["options"]["lang_tokens"] == "en:en cs:ms" and info["batch_size"] == 1


def test_equal_encoders_have_equal_hashes(expdir):
    init, text, full = (System.of(expdir, name) for name in ("init", "text", "full"))
    assert init.encoder == text.encoder != full.encoder
    assert len({init.model, text.model, full.model}) == 3
    assert init.kind == text.kind == full.kind


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("adapt_text", "recipe stage 8 makes it"),
        ("align_only", "recipe stage 9"),
        ("direct_full", "recipe stage 10"),
        ("direct_merge_0.4", "stage 11"),
        ("inti", r"did you mean init\?"),
        ("whisper_base", "stage 5"),
    ],
)
def test_missing_system(expdir, dump, name, message):
    with pytest.raises(FileNotFoundError, match=message):
        decode_sets(expdir, [name], ["a"], dump, OPTIONS)


def test_missing_set(expdir, dump):
    with pytest.raises(FileNotFoundError, match="not a formatted set; format .recipe stage 3"):
        decode_sets(expdir, ["init"], ["c"], dump, OPTIONS)


def test_language_without_a_token(expdir, dump):
    with pytest.raises(ValueError, match="a: utterance s1-1 has the language 'cs', which is not"):
        decode_sets(expdir, ["init"], ["a"], dump, Options(lang_tokens="en:en"))


def test_tag(expdir, dump):
    with pytest.raises(ValueError, match="tag 'a b'"):
        decode_sets(expdir, ["init"], ["a"], dump, OPTIONS, tag="a b")


def test_utterance_over_30_seconds(dump, tmp_path):
    shutil.copytree(dump / "b", tmp_path / "long")
    (tmp_path / "long" / "utt2num_samples").write_text("t-1 480001\nt-2 480000\n")
    with pytest.raises(ValueError, match=r"longer than 30 s.*t-1 \(30.0 s\); cut"):
        load_set(tmp_path, "long")


def test_bad_audio_names_the_utterance(dump, tmp_path):
    write_set(tmp_path / "bad", {f"u-{i}": 0.2 for i in (1, 2, 3, 4, 5)})
    found = load_set(tmp_path, "bad")
    (tmp_path / "bad" / "u-1.wav").unlink()
    (tmp_path / "bad" / "u-2.wav").write_bytes(b"no audio at all")
    soundfile.write(tmp_path / "bad" / "u-3.wav", np.zeros(3200), 8000)
    soundfile.write(tmp_path / "bad" / "u-4.wav", np.zeros(3199), 16000)
    soundfile.write(tmp_path / "bad" / "u-5.wav", np.full(3200, np.nan), 16000, "FLOAT")
    messages = "no such file", "corrupt or no audio", "8000 Hz.*stage 3", "3199 samples", "NaN"
    for utterance, message in zip(found, messages, strict=True):
        with pytest.raises(ValueError, match=f"{utterance.utt}.*{message}"):
            utterance.read()


def test_batches_are_bounded(dump):
    found = load_set(dump, "a")
    assert [len(b) for b in batches(found, 2, 480, "batch")] == [2, 2, 1]
    assert [u.utt for b in batches(found, 2, 480, "batch") for u in b] == [
        "s1-2",
        "s2-2",
        "s1-1",
        "s2-3",
        "s2-1",
    ]
    assert [len(b) for b in batches(found, 9, 60, "30s")] == [2, 2, 1]
    assert [len(b) for b in batches(found, 9, 1.8, "batch")] == [2, 2, 1]
    assert [len(b) for b in batches(found, 9, 0.001, "batch")] == [1] * 5
    with pytest.raises(ValueError, match="batch_size 0"):
        batches(found, 0, 480, "batch")
