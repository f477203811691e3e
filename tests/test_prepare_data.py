import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from espnet_plugin.bin.prepare_data import main
from espnet_plugin.cli import run
from espnet_plugin.data import DataDir, read_table, write_table
from espnet_plugin.data.audio import AudioOptions
from espnet_plugin.data.faults import read_findings, write_report
from espnet_plugin.data.formatting import audio_name, format_set
from espnet_plugin.training.inputs import set_content
from tests.test_datadir_filter import make_set


@pytest.fixture
def data(tmp_path):
    """40 utterances of 0.1 s; every other one at 8 kHz, so that it must be converted."""
    path = make_set(
        tmp_path / "my data" / "train", {f"s-{i:02}": (0.1, f"kata {i}") for i in range(40)}
    )
    for source in list(read_table(path / "wav.scp").values())[::2]:
        samples, _ = soundfile.read(source, dtype="int16")
        soundfile.write(source, samples, 8000)
    return path


def tables(path):
    return {
        p.name: p.read_bytes() for p in path.iterdir() if p.suffix in ("", ".scp") and p.is_file()
    }


def source_of(data, utt):
    return read_table(data / "wav.scp")[utt]


def test_format(data, tmp_path):
    result = format_set(data, tmp_path / "raw", nj=1)
    assert (result.utterances, result.made, result.referred, result.done) == (40, 40, 20, False)
    first = "s-00, s-02, s-04, s-06, s-08, ... (20 in all)"
    assert result.found == {"resampled": ("put right", 20, first)}
    made = DataDir.load(tmp_path / "raw")
    given = DataDir.load(data)
    assert (made.text, made.utt2spk) == (given.text, given.utt2spk)
    assert made.extra.keys() - given.extra.keys() == {"utt2crc32"}
    for utt, path in made.wav.items():
        info = soundfile.info(path)
        assert (info.samplerate, info.channels, info.subtype) == (16000, 1, "PCM_16")
        assert info.frames == made.num_samples[utt]


def test_other_audio_of_the_same_name_and_length_is_seen_by_later_stages(data, tmp_path):
    def state():
        format_set(data, tmp_path / "raw", nj=1)
        return read_table(tmp_path / "raw/utt2crc32"), set_content(tmp_path / "raw")

    first = state()
    for utt in ("s-00", "s-01"):  # one that is converted, and one that is referred to
        samples, rate = soundfile.read(source_of(data, utt), dtype="int16")
        soundfile.write(source_of(data, utt), samples, rate)
    assert state() == first  # the same, written again
    for utt in ("s-00", "s-01"):
        samples, rate = soundfile.read(source_of(data, utt), dtype="int16")
        soundfile.write(source_of(data, utt), samples // 2, rate)
    sums, content = state()
    assert {utt for utt in sums if sums[utt] != first[0][utt]} == {"s-00", "s-01"}
    assert content != first[1]


def test_processes_do_not_change_the_result(data, tmp_path):
    format_set(data, tmp_path / "raw", nj=1)
    first = tables(tmp_path / "raw")
    sounds = {p: p.read_bytes() for p in (tmp_path / "raw" / "data").rglob("*.flac")}
    shutil.rmtree(tmp_path / "raw")
    format_set(data, tmp_path / "raw", nj=2)
    assert tables(tmp_path / "raw") == first
    assert sounds == {p: p.read_bytes() for p in (tmp_path / "raw" / "data").rglob("*.flac")}


def test_second_run_does_nothing(data, tmp_path):
    format_set(data, tmp_path / "raw", nj=1)
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "raw").rglob("*") if p.is_file()}
    result = format_set(data, tmp_path / "raw", nj=1)
    assert result.done and "done already" in str(result)
    assert times == {p: p.stat().st_mtime_ns for p in (tmp_path / "raw").rglob("*") if p.is_file()}


def test_only_what_changed_is_made(data, tmp_path):
    format_set(data, tmp_path / "raw", nj=1)
    changed, lost = source_of(data, "s-00"), tmp_path / "raw" / "data" / audio_name("s-02")
    soundfile.write(changed, np.zeros(1600, np.int16), 8000)
    lost.unlink()
    result = format_set(data, tmp_path / "raw", nj=1)
    assert (result.made, result.kept) == (2, 38) and lost.exists()
    assert DataDir.load(tmp_path / "raw").num_samples["s-00"] == 3200
    assert format_set(data, tmp_path / "raw", nj=1).done


def test_faults_are_collected_and_nothing_is_lost(data, tmp_path, capsys):
    format_set(data, tmp_path / "raw", nj=1)
    bad = {utt: source_of(data, utt) for utt in ("s-00", "s-01", "s-20", "s-39")}
    saved = {utt: Path(path).read_bytes() for utt, path in bad.items()}
    Path(bad["s-00"]).write_bytes(b"")
    Path(bad["s-01"]).write_bytes(b"no audio at all")
    Path(bad["s-20"]).write_bytes(saved["s-20"][:100])
    Path(bad["s-39"]).unlink()
    message = (
        r"the audio of 4 of 40 utterances cannot be used; allowed is a share of 0.05 \(--max_f"
    )
    with pytest.raises(ValueError, match=message) as caught:
        format_set(data, tmp_path / "raw", nj=2, max_faulty=0.05)
    report = tmp_path / "raw" / "faults.tsv"
    assert f"All are listed in {report}" in str(caught.value)
    listed = [one for one in read_findings(report) if one.done == "left out"]
    assert {one.utterance: one.fault for one in listed} == {
        "s-00": "empty",
        "s-01": "not audio",
        "s-20": "truncated",
        "s-39": "missing",
    }
    assert listed[3].file == bad["s-39"] and listed[3].found == "no such file"
    assert all(f"  {one.utterance} {one.file}: {one.found}" in str(caught.value) for one in listed)
    assert not (tmp_path / "raw" / "wav.scp").exists()  # an unfinished set is not taken for one
    for utt, content in saved.items():
        Path(bad[utt]).write_bytes(content)
    result = format_set(data, tmp_path / "raw", nj=1)
    assert (result.made, result.kept, result.left_out) == (4, 36, 0)
    assert {one.fault for one in read_findings(report)} == {"resampled"}
    assert len(DataDir.load(tmp_path / "raw").text) == 40


def test_a_few_faults_are_left_out_of_a_training_set(data, tmp_path):
    bad = Path(source_of(data, "s-07"))
    content = bad.read_bytes()
    bad.write_bytes(content[:2000])
    result = format_set(data, tmp_path / "raw", nj=1, max_faulty=0.025)
    assert (result.utterances, result.left_out) == (39, 1)
    assert "raw: WARNING: truncated, left out: s-07" in str(result)
    made = DataDir.load(tmp_path / "raw")
    assert "s-07" not in made.text and len(made.extra["utt2topic"]) == 39
    again = format_set(data, tmp_path / "raw", nj=1, max_faulty=0.025)
    assert again.done and "WARNING: truncated, left out: s-07" in str(again)
    with pytest.raises(ValueError, match=r"1 of 40 utterances cannot be used; .* share of 0.01"):
        format_set(data, tmp_path / "raw", nj=1)  # a finished set that is no longer good enough
    shutil.copytree(data, tmp_path / "test_cs")
    with pytest.raises(ValueError, match="a test set is taken whole: the score would be of anoth"):
        format_set(tmp_path / "test_cs", tmp_path / "raw_test", nj=1, max_faulty=0.5)
    bad.write_bytes(content)  # mended: only that one is made
    result = format_set(data, tmp_path / "raw", nj=1)
    assert (result.utterances, result.made, result.kept, result.found.keys()) == (
        40,
        1,
        39,
        {"resampled"},
    )
    with pytest.raises(ValueError, match="max_faulty is a share within 0 and 1, got 5"):
        format_set(data, tmp_path / "raw", max_faulty=5)


def test_nothing_is_left_out_of_a_test_set_whatever_its_name(data, tmp_path):
    Path(source_of(data, "s-07")).unlink()
    command = ["format", "--sets", "train", "--datadir", str(data.parent), "--nj", "1"]
    command += ["--dumpdir", str(tmp_path / "raw"), "--max_faulty", "0.5"]
    main(command)
    with pytest.raises(ValueError, match="a test set is taken whole"):
        main([*command, "--test_sets", "train"])


def test_what_training_sets_share_with_test_sets_is_said(tmp_path, capsys):
    for name, utterances in {
        "train": {"s-1": (0.2, "Saya nak kopi!"), "s-2": (0.2, "jom makan")},
        "kept": {"other-3": (0.2, "jom pergi")},
        "eval": {"s-2": (0.2, "apa khabar"), "s-4": (0.2, "saya nak kopi"), "s-5": (0.3, "ya")},
    }.items():
        path = make_set(tmp_path / "data" / name, utterances)
        if name == "kept":
            write_table(path / "utt2spk", {"other-3": "other"})
            write_table(path / "spk2utt", {"other": "other-3"})
        format_set(path, tmp_path / "raw" / name, nj=1)
    command = ["filter", "--sets", "train kept", "--dumpdir", str(tmp_path / "raw")]
    main([*command, "--held_out", "kept eval not_there"])
    said = "train and eval share 1 of 1 speakers (s), sentences of 1 of 3 utterances (s-4), "
    said += "audio of 1 of 3 utterances (s-2)"
    printed = capsys.readouterr().out
    assert f"WARNING: {said}\n" in printed and "train and kept" not in printed
    assert f"- {said}\n" in (tmp_path / "raw/overlap.md").read_text()


def test_a_language_without_a_token_is_found_before_anything_is_trained(data, tmp_path):
    command = ["format", "--sets", "train", "--datadir", str(data.parent), "--nj", "1"]
    command += ["--dumpdir", str(tmp_path / "raw"), "--lang_tokens"]
    with pytest.raises(ValueError, match=r"'s-00' has the language 'cs'; configured are en ms"):
        main([*command, "ms:ms en:en"])
    main([*command, "cs:ms ms:ms en:en"])


def test_what_another_run_may_read_is_tried_again(data, tmp_path):
    wav = read_table(data / "wav.scp")
    wav["s-03"] = f"test -e '{tmp_path}/ready' && cat '{wav['s-03']}' |"
    write_table(data / "wav.scp", wav)
    for allowed in (False, True):
        result = format_set(
            data, tmp_path / "raw", AudioOptions(allow_pipes=allowed), nj=1, max_faulty=0.1
        )
        assert (result.left_out, result.found["command"][2]) == (1, "s-03")
    (tmp_path / "ready").touch()
    result = format_set(data, tmp_path / "raw", AudioOptions(allow_pipes=True), nj=1)
    assert (result.made, result.kept, result.left_out) == (1, 39, 0)


def test_one_report_of_all_sets(data, tmp_path, capsys):
    folder, dump = data.parent, tmp_path / "dump" / "raw"
    make_set(folder / "test_cs", {"s-1": (30.1, "a b"), "s-2": (1, "c"), "s-3": (1, "")})
    make_set(folder / "valid", {"s|1": (1, "a b"), "s-v2": (30.5, "c")})
    both = ["--sets", "train valid test_cs", "--dumpdir", str(dump), "--datadir", str(folder)]
    main(["format", *both, "--nj", "1"])
    main(["filter", "--sets", "train valid", "--dumpdir", str(dump), "--min_seconds", "0.01"])
    printed = capsys.readouterr().out
    assert "WARNING: over 30 s, kept (decoding refuses it, stage 4 drops it): s-1\n" in printed
    assert f"what was found about the audio: {dump}/faults.md\n" in printed
    rows = [line for line in (dump / "faults.md").read_text().splitlines() if line[:2] == "| "]
    assert "| test_cs | 3 | over 30 s | 1 | kept | s-1 |" in rows
    first = "s-00, s-02, s-04, s-06, s-08, ... (20 in all)"
    assert f"| train | 3 | resampled | 20 | put right | {first} |" in rows
    assert "| train | 4 | none | 0 | | |" in rows
    assert "| valid | 4 | too long | 1 | left out | s-v2 |" in rows
    assert f"| s-08 | {source_of(data, 's-08')} | 8000 Hz |" in rows
    assert "| ... 10 more | | |" in rows
    Path(source_of(data, "s-31")).write_bytes(b"")  # reported where the run fails, too
    fails(["format", *both, "--nj", "1"], capsys)
    assert "| train | 3 | empty | 1 | left out | s-31 |" in (dump / "faults.md").read_text()
    (dump / "train" / "faults.tsv").write_text("a\tb\n")
    with pytest.raises(ValueError, match=r"faults.tsv:1: not a line of a report"):
        write_report(dump)


def test_a_killed_run_goes_on(data, tmp_path, monkeypatch):
    from espnet_plugin.data import formatting

    batches = []

    def dying(jobs):
        if len(batches) == 2:
            raise KeyboardInterrupt
        batches.append(jobs)
        return [made for job in jobs for made in formatting.make_recording(*job)]

    with monkeypatch.context() as patch:
        patch.setattr(formatting, "_make_batch", dying)
        with pytest.raises(KeyboardInterrupt):
            format_set(data, tmp_path / "raw", nj=1)
    with open(tmp_path / "raw" / "format_journal.jsonl", "a") as file:
        file.write('{"utt": "s-39", "pa')  # killed within a line
    result = format_set(data, tmp_path / "raw", nj=1)
    assert (result.made, result.kept) == (8, 32)


def test_too_long_test_utterance_is_named(tmp_path):
    make_set(tmp_path / "test_cs", {"s-1": (1, "a"), "s-2": (30.1, "b")})
    text = str(format_set(tmp_path / "test_cs", tmp_path / "raw", nj=1))
    assert "raw: WARNING: over 30 s, kept (decoding refuses" in text and text.endswith(": s-2")
    text = str(format_set(tmp_path / "test_cs", tmp_path / "raw", nj=1))
    assert "done already" in text and text.endswith(": s-2")


def test_segments_become_utterances(tmp_path):
    data = make_set(tmp_path / "train", {"call": (2.0, "x")}, extra=False)
    for name in ("text", "utt2spk", "utt2lang"):
        (data / name).write_text("s/1%-1 s\ns/1%-2 s\n")
    (data / "spk2utt").write_text("s s/1%-1 s/1%-2\n")
    (data / "segments").write_text("s/1%-1 call 0 0.75\ns/1%-2 call 0.75 -1\n")
    format_set(data, tmp_path / "raw", nj=1)
    made = DataDir.load(tmp_path / "raw")
    assert made.segments is None and made.num_samples == {"s/1%-1": 12000, "s/1%-2": 20000}
    whole, _ = soundfile.read(source_of(data, "call"), dtype="int16")
    parts = [soundfile.read(path, dtype="int16")[0] for path in made.wav.values()]
    np.testing.assert_array_equal(np.concatenate(parts), whole)


def test_espnet_reads_what_was_prepared(data, tmp_path):
    """ESPnet's own readers, on paths and text with spaces."""
    from espnet2.fileio.read_text import read_2columns_text
    from espnet2.fileio.sound_scp import SoundScpReader

    (data / "text").write_bytes(
        (data / "text").read_bytes().replace(b"kata 3\n", "日本\u3000 kopi  O\u00a0x\n".encode())
    )
    format_set(data, tmp_path / "raw set", nj=1)
    made = DataDir.load(tmp_path / "raw set")
    reader = SoundScpReader(str(tmp_path / "raw set" / "wav.scp"), dtype="int16")
    assert list(reader) == made.utterances
    for utt, given in read_table(data / "wav.scp").items():
        rate, samples = reader[utt]
        assert rate == 16000 and len(samples) == made.num_samples[utt]
        if soundfile.info(given).samplerate == 16000:
            np.testing.assert_array_equal(samples, soundfile.read(given, dtype="int16")[0])
    for name in ("text", "utt2spk", "spk2utt", "utt2lang", "utt2num_samples", "utt2topic"):
        path = tmp_path / "raw set" / name
        assert read_2columns_text(path) == read_table(path)
    assert read_2columns_text(tmp_path / "raw set" / "text") == DataDir.load(data).text


def fails(args, capsys):
    with pytest.raises(SystemExit) as stop:
        run(lambda: main([str(arg) for arg in args]))
    assert stop.value.code == 2
    return capsys.readouterr().err


def test_command_line(data, tmp_path, tiny_whisper, capsys):
    make_set(tmp_path / "my data" / "test_cs", {"s-1": (1, "a b")})
    dump = tmp_path / "dump" / "raw"
    both = ["--sets", "train test_cs", "--dumpdir", str(dump)]
    main(["format", *both, "--datadir", str(data.parent), "--nj", "1", "--languages", "cs,ms"])
    main(["filter", "--sets", "train", "--dumpdir", str(dump), "--min-seconds", "0.05"])
    main(["stats", *both, "--output", str(tmp_path / "stats"), "--model", str(tiny_whisper)])
    output = capsys.readouterr().out
    assert f"{dump}/train: 40 of 40 utterances kept" in output
    assert "| test_cs | 1 | 1 | 0.00 | 1.0 | 2 | 2 | cs 1 |" in output
    names = [figures["name"] for figures in json.loads((tmp_path / "stats/stats.json").read_text())]
    assert names == ["train", "test_cs"]


def test_command_line_shows_the_faults_of_all_sets(data, tmp_path, capsys):
    (data / "text").write_bytes(b"s-00 \xff\n")
    args = ["format", "--sets", "train trains", "--datadir", data.parent, "--dumpdir", tmp_path]
    text = fails(args, capsys)
    assert "text:1: is not UTF-8: byte ff in column 6" in text
    assert "trains: no such data directory (did you mean train?); stages 1 and 2 make it" in text


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["format"], "give either --input DIR --output DIR, or --sets"),
        (["format", "--input", "x"], "give either --input DIR --output DIR, or --sets"),
        (["format", "--input", "x", "--output", "y", "--nj", "0"], "nj is at least 1, got 0"),
        (["format", "--input", "x", "--output", "y", "--channel", "left"], "channel is a number"),
        (["format", "--inputs", "x"], "unknown option --inputs (did you mean --input?)"),
        (["format", "--copy", "maybe"], "'maybe' is neither true nor false"),
        (["filter", "--sets", "test_cs"], "test sets are never filtered"),
        (["filter", "--sets", "train", "--max_seconds", "40"], "Whisper hears 30 s"),
        (
            ["stats", "--sets", "none"],
            "none: not a formatted set, it has no utt2num_samples; format",
        ),
    ],
)
def test_bad_command_lines(args, message, capsys):
    assert message in fails(args, capsys)


def test_same_directory_is_refused(data):
    with pytest.raises(ValueError, match="input and output are the same directory"):
        format_set(data, data)


def test_help_is_light():
    code = (
        "import sys, runpy\nsys.argv = ['x', '--help']\n"
        "try: runpy.run_module('espnet_plugin.bin.prepare_data', run_name='__main__')\n"
        "finally: print({'torch', 'espnet2', 'transformers', 'numpy'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.endswith("set()\n")
