import os
from dataclasses import replace

import pytest

from espnet_plugin.bin.prepare_corpus import main
from espnet_plugin.corpora.combine import combine
from espnet_plugin.corpora.corpus import corpus_named
from espnet_plugin.corpora.prepare import prepare
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import DataDir
from tests.corpora.test_prepare import FREE, TABLE, row, run, toy
from tests.fixtures.nsc import write


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def test_combined_sets(tmp_path):
    rows = [row("a", "s1", split="train"), row("b", "s9", split="train")]
    parts = [row("c", "s3", split="train", recording="r", start=0.1, end=0.9)]
    run(tmp_path, u=rows)
    mine = replace(TABLE, name="mine")
    prepare(mine, toy(tmp_path / "mine", u=parts), tmp_path / "data", FREE)
    data = tmp_path / "data"
    for _ in range(2):  # the second replaces the first
        assert combine([data / "toy_train", data / "mine_train"], data / "all") == 3
    assert validate_data_dir(data / "all") == []
    assert not list((data / "all").glob("utt2t*"))  # none of them has any
    segments = DataDir.load(data / "all").segments
    assert segments["toy_s9-b"].end == 1.0 and segments["mine_s3-c"].start == 0.1
    with pytest.raises(ValueError, match="id 'toy_s1-a' is in two of the sets"):
        combine([data / "toy_train", data / "toy_train"], data / "all")
    with pytest.raises(FileNotFoundError, match=r"nothing: has no wav.scp, text"):
        combine([data / "nothing"], data / "all")
    assert validate_data_dir(data / "all") == []


def test_combined_sets_keep_what_is_known_of_some(tmp_path):
    timed = [
        row("a", "s1", tags=["en"] * 3, times=[(0, 0.5, 3)], split="train"),
        row("b", "s1", tags=["en"] * 3, split="train"),
    ]
    run(tmp_path, u=timed)
    mine = replace(TABLE, name="mine")
    plain = toy(tmp_path / "mine", u=[row("c", "s3", split="train")])
    prepare(mine, plain, tmp_path / "data", FREE)
    data = tmp_path / "data"
    combine([data / "mine_train", data / "toy_train"], data / "all")
    assert validate_data_dir(data / "all") == []
    extra = DataDir.load(data / "all").extra
    mine_c, toy_a, toy_b = extra["utt2tags"]
    assert extra["utt2tags"] == {mine_c: "", toy_a: "en en en", toy_b: "en en en"}
    assert extra["utt2times"] == {mine_c: "", toy_a: "0.00:0.50:3", toy_b: ""}
    write(data / "all/utt2tags", f"{toy_a} en en en\n")  # a missing line is a mistake
    faults = [str(fault) for fault in validate_data_dir(data / "all")]
    assert faults == [
        f"{data}/all/utt2tags: '{mine_c}' is missing; all utterances of wav.scp (so in 2 lines)"
    ]


def test_errors_of_an_alias_name_both_variables(tmp_path, monkeypatch):
    (tmp_path / "x").mkdir()
    for name, kind in (
        ("old=nsc", "NSC"),
        ("id=fleurs", "FLEURS"),
        ("cv2=common_voice", "COMMON_V"),
    ):
        corpus = corpus_named(name)
        with pytest.raises(FileNotFoundError) as error:
            prepare(corpus, str(tmp_path / "x"), tmp_path / "data", FREE)
        variable = corpus.variable
        assert str(error.value).startswith(f"{variable}={tmp_path}/x: ")
        assert f"({variable} is another corpus of the kind of {kind}" in str(error.value)
    alias = replace(TABLE, name="toy2", variable="TOY2", kind="TOY")
    with pytest.raises(ValueError, match=r"(?s)TOY2=.*nothing to prep.*\(TOY2 is another"):
        prepare(alias, str(tmp_path / "x"), tmp_path / "data", FREE)
    monkeypatch.delenv("OLD", raising=False)
    with pytest.raises(ValueError, match=r"OLD \(another NSC\) is not set; db.sh"):
        main(["prepare", "--corpora", "old=nsc"])
