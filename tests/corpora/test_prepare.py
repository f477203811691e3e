import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from espnet_plugin.corpora import corpus as corpora
from espnet_plugin.corpora import spool
from espnet_plugin.corpora.corpus import Corpus, Licence, Option, Row, Skip, Unit, corpus_named
from espnet_plugin.corpora.prepare import Report, Settings, prepare
from espnet_plugin.corpora.splits import Shares, shared
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import DataDir, read_table
from tests.fixtures.nsc import write

READ: list[str] = []  # units that were read in this process


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda file: None)


def find(root, options):
    for path in sorted(corpora.existing_folder(root, TABLE).glob("*.jsonl")):
        yield Unit(path.stem, (str(path),), path.name)


def read(unit, context):
    READ.append(unit.key)
    for line in Path(unit.files[0]).read_text("utf-8").splitlines():
        entry = json.loads(line)
        if "reason" in entry:
            yield Skip(**entry)
        elif "fail" in entry:
            raise OSError(28, "No space left on device", "x")
        else:
            yield Row(**entry)


TABLE = Corpus(
    "toy",
    "TOY",
    "A toy",
    Licence("CC BY-NC", commercial=False),
    "https://example.org",
    "  *.jsonl",
    find,
    read,
    {"loud": Option("yes", "say it loudly", ("yes", "no"))},
)
FREE = Settings(non_commercial=True)


def row(name, speaker="s1", text="words of {}", **more):
    text = text.format(name)
    return {"name": name, "speaker": speaker, "text": text, "lang": "en", "seconds": 1.0} | {
        "source": f"/x/{name}.wav",
        **more,
    }


def toy(root: Path, **units) -> str:
    for key, rows in units.items():
        text = "".join(json.dumps(entry) + "\n" for entry in rows)
        if not (root / f"{key}.jsonl").exists() or (root / f"{key}.jsonl").read_text() != text:
            write(root / f"{key}.jsonl", text)
    return str(root)


def run(tmp_path: Path, settings: Settings = FREE, **units) -> Report:
    READ.clear()
    return prepare(TABLE, toy(tmp_path / "in", **units), tmp_path / "data", settings)


def texts(tmp_path: Path, name: str) -> dict[str, str]:
    return read_table(tmp_path / "data" / name / "text")


def test_tables_are_what_espnet_and_we_read(tmp_path):
    rows = [
        row("b", "zoë", "  saya\t nak\u2028kopi ", lang="ms", tags=["ms"] * 3, split="train"),
        row("a 1", "ali", "it's fine", tags=["en"] * 3, split="train", times=[(0, 0.5, 2)]),
    ]
    report = run(tmp_path, u=rows)
    folder = tmp_path / "data/toy_train"
    assert validate_data_dir(folder) == []
    data = DataDir.load(folder)
    ali, zoe = data.utterances
    assert ali.startswith("toy_ali-a_1_") and zoe.startswith("toy_zo_") and zoe.endswith("-b")
    assert data.text == {ali: "it's fine", zoe: "saya nak kopi"}
    assert data.utt2lang == {ali: "en", zoe: "ms"}
    assert data.extra["utt2tags"] == {ali: "en en en", zoe: "ms ms ms"}
    assert data.extra["utt2dur"] == {ali: "1.000", zoe: "1.000"}
    assert data.extra["utt2times"] == {ali: "0.00:0.50:2", zoe: ""}  # not known
    assert report.warnings == ["toy_train: utt2times of 1 of 2 only"]
    from espnet2.fileio.read_text import read_2columns_text

    for name in ("text", "wav.scp", "utt2spk", "spk2utt", "utt2tags", "utt2times"):
        assert read_2columns_text(folder / name) == read_table(folder / name, allow_empty=True)


def test_segments_are_fitted_to_the_recording(tmp_path):
    def part(start, end):
        more = {"recording": "r", "source": "/x/r.wav", "start": start, "end": end}
        return row(f"r-{start}", split="train", **more)

    times = {"times": [(0.0, 2.0, 1), (2.0, 4.4, 2)], "seconds": 4.3004, "split": "train"}
    rows = [part(0, 0.5), part(0.5, 1.3004), part(0.6, 1.6), part(1.0, 1.0), part(1.2, 0.2)]
    rows += [part(0.9, 1.0), row("whole", **times, text="one two three")]
    report = run(tmp_path, u=[entry | {"seconds": entry.get("seconds", 1.0)} for entry in rows])
    assert report.skipped == {"no duration": 2, "past the end of the recording": 1}
    assert report.notes == {"end cut to the recording's": 1}
    data = DataDir.load(tmp_path / "data/toy_train")
    spans = {utt.partition("-")[2]: (s.start, s.end) for utt, s in data.segments.items()}
    assert spans == {"r-0": (0, 0.5), "r-0.5": (0.5, 1), "r-0.9": (0.9, 1), "whole": (0, 4.3)}
    assert sorted(data.wav.values()) == ["/x/r.wav", "/x/whole.wav"]


def test_each_recording_has_one_file(tmp_path):
    def part(name, source, start):
        more = {"recording": "r", "source": source, "start": start, "end": start + 0.1}
        return row(name, split="train", **more)

    report = run(tmp_path, u=[part("a", "/1", 0), part("b", "/1", 0.2), part("c", "/2", 0.4)])
    assert report.skipped == {"recording name given twice": 1}
    assert validate_data_dir(tmp_path / "data/toy_train") == []


def test_counts_add_up_and_every_skip_is_listed(tmp_path):
    rows = [
        row("a", split="train", items=3),
        row("a", split="train", text="again"),
        row("b", split="train", text=" ?! "),
        row("c", split="train", text="uh", tags=[]),
        row("d", split="test"),
        row("d2", "s2", split="train", text="Words, of D!"),
        row("e", "s3", split="train", notes=["odd"]),
        {"item": "x y", "reason": "broken", "detail": "a\tb", "items": 4},
    ]
    report = run(tmp_path, u=rows)
    assert (report.items, report.kept) == (13, 2)
    assert report.skipped == {
        "broken": 4,
        "speaker of a test set": 4,  # a, and a again
        "no words": 2,
        "sentence of a test set": 1,
    }
    assert report.notes == {"odd": 1}
    lines = (tmp_path / "data/toy_skipped.tsv").read_text().splitlines()
    assert "x y\tbroken\ta b\t4" in lines
    assert sum(int(line.rpartition("\t")[2]) for line in lines) == 11
    assert texts(tmp_path, "toy_train") == {"toy_s3-e": "words of e"}
    assert texts(tmp_path, "toy_test") == {"toy_s1-d": "words of d"}


def test_the_first_of_an_id_stays_whatever_order_units_were_read_in(tmp_path):
    units = {"a": [row("u", text="first", split="x")], "b": [row("u", text="second", split="x")]}
    assert run(tmp_path, **units).skipped == {"id given twice": 1}
    assert texts(tmp_path, "toy_x") == {"toy_s1-u": "first"}
    os.utime(tmp_path / "in/a.jsonl", ns=(1, 1))
    units["c"] = [{"fail": 1}]
    with pytest.raises(OSError, match="No space"):
        run(tmp_path, **units)
    (tmp_path / "in/c.jsonl").unlink()
    assert run(tmp_path, a=units["a"], b=units["b"]).kept == 1
    assert texts(tmp_path, "toy_x") == {"toy_s1-u": "first"}


def test_a_failed_run_goes_on_and_a_finished_one_rests(tmp_path):
    units = {key: [row(key, f"s{key}")] for key in "abcd"}
    with pytest.raises(OSError, match="No space left") as error:
        run(tmp_path, **units | {"c": [{"fail": 1}]})
    assert "while reading c" in error.value.__notes__[0]
    assert not list((tmp_path / "data").glob("toy_*"))
    report = run(tmp_path, **units)
    assert READ == ["c", "d"] and report.kept == 4 and not report.done
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    again = run(tmp_path, **units)
    assert READ == [] and again.done and str(report) == str(again).replace("; done already", "")
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "data").rglob("*")}
    assert run(tmp_path, **units | {"d": [row("e", "sd")]}).kept == 4
    assert READ == ["a", "b", "c", "d"]
    (tmp_path / "data/toy_train/corpus.json").unlink()
    with pytest.raises(ValueError, match="was not made from a corpus"):
        run(tmp_path, **units)


def test_a_killed_run_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "COMMIT", (1, 10.0))
    units = {key: [row(key, f"s{key}")] for key in "abcd"}
    toy(tmp_path / "in", **units)
    child = os.fork()
    if child == 0:
        real = read

        def killed(unit, context):
            if unit.key == "c":
                os.kill(os.getpid(), 9)
            yield from real(unit, context)

        prepare(replace(TABLE, read=killed), str(tmp_path / "in"), tmp_path / "data", FREE)
    assert os.waitpid(child, 0)[1] == 9
    (tmp_path / "data/.toy_train.1.tmp").mkdir()  # as a kill while writing leaves it
    assert run(tmp_path, **units).kept == 4 and READ == ["c", "d"]
    assert not list((tmp_path / "data").glob(".*"))


def test_two_runs_at_once(tmp_path):
    work = spool.Spool(tmp_path / "data/.prepare/toy/rows.sqlite", "x")
    work.db.execute("BEGIN EXCLUSIVE")
    with pytest.raises(ValueError, match="is another process preparing this corpus"):
        spool.Spool(tmp_path / "data/.prepare/toy/rows.sqlite", "x")
    work.close()


def test_other_processes_make_the_same(tmp_path):
    units = {key: [row(f"{key}{n}", f"s{key}{n}") for n in range(3)] for key in "abc"}
    made = []
    for nj in (1, 2):
        run(tmp_path / str(nj), replace(FREE, nj=nj), **units)
        data = tmp_path / str(nj) / "data"
        files = [p for p in data.rglob("*") if p.is_file() and p.suffix != ".json"]
        made.append({str(p.relative_to(data)): p.read_bytes() for p in files})
    assert READ == []  # the second run read elsewhere
    assert made[0] == made[1] and len(made[0]) > 10


def conversations():
    return [
        row(f"u{n}", f"s{n}", seconds=36.0, group=f"g{n // 2}", text=f"sentence {n}")
        for n in range(200)
    ]


def test_split_by_speaker_keeps_groups_together(tmp_path):
    report = run(tmp_path, replace(FREE, shares=Shares(0.1, 0.2)), u=conversations())
    groups = {}
    for part in ("train", "valid", "test"):
        names = texts(tmp_path, f"toy_{part}")
        groups[part] = {int(utt.partition("-u")[2]) // 2 for utt in names}
        assert len(names) == 2 * len(groups[part])
    assert {part: len(g) for part, g in groups.items()} == {"train": 70, "valid": 10, "test": 20}
    assert report.shared == {"speakers": 0, "sentences": 0}
    other = replace(FREE, shares=Shares(0.1, 0.2, seed=1))
    run(tmp_path / "other", other, u=conversations())
    assert texts(tmp_path / "other", "toy_test") != texts(tmp_path, "toy_test")
    hour = replace(FREE, shares=Shares(0.1, 0.2, max_hours=0.1))
    assert run(tmp_path / "cap", hour, u=conversations()).sets["toy_test"]["utterances"] == 10


def test_too_few_speakers(tmp_path):
    report = run(tmp_path, u=[row("a"), row("b")])
    assert list(report.sets) == ["toy_train"]
    assert report.warnings == [
        "the corpus: too few speakers for a test set",
        "the corpus: too few speakers for a valid set",
    ]


def test_without_speakers_the_sentence_decides(tmp_path):
    rows = [row(f"u{n}", None, f"sentence number {n % 300}") for n in range(900)]
    report = run(tmp_path, replace(FREE, shares=Shares(0.1, 0.1)), u=rows)
    assert report.unknown_speakers == report.kept == 900
    parts = [set(texts(tmp_path, f"toy_{part}").values()) for part in ("train", "valid", "test")]
    assert all(len(part) > 15 for part in parts) and sum(map(len, parts)) == 300
    assert "speakers unknown" in str(report)


def test_official_speakers_pull_the_others_along(tmp_path):
    rows = [row("a", "s1", split="test_clean"), row("b", "s1"), row("c", "s1", split="dev")]
    rows += [row(f"t{n}", f"t{n}", split="train") for n in range(3)]
    report = run(tmp_path, u=rows)
    assert set(texts(tmp_path, "toy_test")) == {"toy_s1-b"}
    assert list(report.sets) == ["toy_test", "toy_test_clean", "toy_train"]
    assert report.skipped == {"speaker of a test set": 1}
    assert "toy_dev: nothing is left of it" in report.warnings


def test_sentences_of_other_test_sets_and_short_ones(tmp_path):
    rows = [row("a", "s1", "Okay lah", split="test"), row("b", "s2", "okay, LAH", split="train")]
    rows += [row("c", "s3", "from elsewhere it is", split="train"), row("d", "s4", split="train")]
    write(tmp_path / "other/text", "x From elsewhere, it is!\n")
    settings = replace(FREE, keep_out=(tmp_path / "other",))
    assert set(run(tmp_path, settings, u=rows).skipped.values()) == {2}
    lenient = replace(settings, shares=Shares(shared_words=2))
    assert run(tmp_path, lenient, u=rows).skipped == {"sentence of a test set": 1}
    folders = [tmp_path / "data/toy_train"], [tmp_path / "data/toy_test"]
    assert shared(*folders) == {"speakers": 0, "sentences": 1}
    with pytest.raises(FileNotFoundError, match="nowhere/text"):
        run(tmp_path, replace(settings, keep_out=(tmp_path / "nowhere",)), u=rows)


def test_licence_options_and_roots(tmp_path):
    with pytest.raises(ValueError, match="give --accept_non_commercial true"):
        run(tmp_path, Settings(), u=[row("a")])
    with pytest.raises(ValueError, match=r"no option 'lout' \(did you mean loud\?\); it has loud"):
        run(tmp_path, replace(FREE, options={"lout": "yes"}), u=[row("a")])
    with pytest.raises(ValueError, match="toy.loud: 'maybe' is not one of yes no"):
        run(tmp_path, replace(FREE, options={"loud": "maybe"}), u=[row("a")])
    with pytest.raises(FileNotFoundError, match="TOY=.*no such folder; it should hold A toy"):
        prepare(TABLE, str(tmp_path / "none"), tmp_path / "data", FREE)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="nothing to prepare. Expected:\n  \\*.jsonl"):
        prepare(TABLE, str(tmp_path / "empty"), tmp_path / "data", FREE)
    with pytest.raises(ValueError, match=r"no usable utterance among 1 items \(no words: 1\)"):
        run(tmp_path / "mute", u=[row("a", text="?")])
    with pytest.raises(ValueError, match="language 'Malay' is no code"):
        run(tmp_path / "lang", u=[row("a", lang="Malay")])
    with pytest.raises(ValueError, match="times have another number of words"):
        run(tmp_path / "times", u=[row("a", times=[(0, 1, 2)])])


def test_names_of_corpora():
    assert corpus_named("nsc").variable == "NSC"
    second = corpus_named("old_nsc=nsc")
    assert (second.name, second.variable) == ("old_nsc", "OLD_NSC")
    with pytest.raises(ValueError, match=r"no corpus is called 'ncs' \(did you mean nsc\?\)"):
        corpus_named("ncs")
    assert (second.kind, corpus_named("nsc").kind) == ("NSC", "")
    with pytest.raises(ValueError, match="an alias has lower-case letters"):
        corpus_named("My-NSC=nsc")


@pytest.mark.parametrize("bad", [{"valid": 0.6}, {"max_hours": 0}, {"shared_words": -1}])
def test_wrong_shares(bad):
    with pytest.raises(ValueError, match=next(iter(bad))):
        Shares(**bad)
