import json
import os

import pytest

from espnet_plugin.bin.filter_labels import main
from espnet_plugin.corpora.pseudo_label_dir import filter_data_dir
from espnet_plugin.corpora.pseudo_labels import Limits
from espnet_plugin.corpora.validate import validate_data_dir
from tests.fixtures.nsc import wav_bytes, write
from tests.fixtures.prepared import table

TEXTS = {
    "s1-a": "saya suka nasi lemak",
    "s1-b": "terima kasih " * 20 + "ya",
    "s1-c": "jom kita pergi",
    "s2-a": "boleh tak you come",
    "s2-b": "hello there my friend",
}


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def data_dir(folder, segments=True):
    def put(name, rows):
        write(folder / name, "".join(f"{key} {value}\n" for key, value in sorted(rows.items())))

    put("text", TEXTS)
    put("utt2spk", {utt: utt[:2] for utt in TEXTS})
    put("spk2utt", {s: " ".join(u for u in TEXTS if u[:2] == s) for s in ("s1", "s2")})
    put("utt2lang", dict.fromkeys(TEXTS, "ms"))
    put("utt2dur", dict.fromkeys(TEXTS, "2.000"))
    put("utt2topic", {utt: f"topic {utt}" for utt in TEXTS})
    names = {utt: utt[-1] if segments else utt for utt in TEXTS}
    put("wav.scp", {n: str(write(folder / f"{n}.wav", wav_bytes(3.0))) for n in names.values()})
    put("reco2dur", dict.fromkeys(names.values(), "3.000000"))
    if segments:
        put("segments", {utt: f"{name} 0.000 2.000" for utt, name in names.items()})
    return folder


@pytest.mark.parametrize("segments", [True, False])
def test_bad_labels_are_left_out_of_all_tables(tmp_path, segments):
    source = data_dir(tmp_path / "in", segments)
    assert validate_data_dir(source) == []
    heard = write(
        tmp_path / "heard",
        "s1-a Saya suka nasi lemak.\ns2-a something else entirely\ns2-b hello there my friends\n",
    )
    result = filter_data_dir(source, tmp_path / "out", Limits(), heard)
    assert (result.total, result.kept) == (5, 2)
    assert result.dropped == {"compression": 1, "no hypothesis": 1, "disagreement": 1}
    assert validate_data_dir(tmp_path / "out") == []
    assert table(tmp_path / "out/text") == {u: TEXTS[u] for u in ("s1-a", "s2-b")}
    assert table(tmp_path / "out/utt2topic") == {u: f"topic {u}" for u in ("s1-a", "s2-b")}
    assert set(table(tmp_path / "out/wav.scp")) == ({"a", "b"} if segments else {"s1-a", "s2-b"})
    lines = (tmp_path / "out/dropped.tsv").read_text().splitlines()
    assert lines[1:] == ["s1-c\tno hypothesis\t", "s2-a\tdisagreement\tWER 100.0 %"]
    report = json.loads((tmp_path / "out/filtered.json").read_text())
    assert report["kept"] == 2 and report["limits"]["max_wer"] == 0.3


def test_the_command_line(tmp_path, capsys):
    source = data_dir(tmp_path / "in")
    main(["--input", str(source), "--output", str(tmp_path / "out"), "--kinds", "speed",
          "--max-speed", "2.1"])  # fmt: skip
    assert "out: 4 of 5 pseudo-labels kept; fast speech: 1" in capsys.readouterr().out


def test_mistakes(tmp_path):
    source = data_dir(tmp_path / "in")
    with pytest.raises(FileNotFoundError, match="gone: no such table"):
        filter_data_dir(source, tmp_path / "out", hypotheses=tmp_path / "gone")
    with pytest.raises(ValueError, match=r"no pseudo-label is good\{'slow speech': 5\}"):
        filter_data_dir(source, tmp_path / "out", Limits(("speed",), min_speed=50, max_speed=60))
    assert not (tmp_path / "out").exists()
    write(tmp_path / "heard", "s2-a x\ns1-a y\n")
    with pytest.raises(ValueError, match="heard:2: 's1-a' after 's2-a': sort it"):
        filter_data_dir(source, tmp_path / "out", hypotheses=tmp_path / "heard")
    write(source / "utt2lang", "s1-a ms\n")
    with pytest.raises(ValueError, match="utt2lang: 's1-b' is missing"):
        filter_data_dir(source, tmp_path / "out")
    (source / "utt2dur").unlink()
    with pytest.raises(FileNotFoundError, match="utt2dur: no such table; it is needed"):
        filter_data_dir(source, tmp_path / "out")
