import gzip
import json
import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from espnet_plugin.bin import synth_data
from espnet_plugin.corpora import switch_text, switch_text_pairs, switch_text_run
from espnet_plugin.corpora.markup import parse_markup
from espnet_plugin.corpora.switch_patterns import Patterns, Shape, measure, read_patterns, shape_of
from espnet_plugin.corpora.switch_text_choose import Chooser, Seen
from espnet_plugin.corpora.switch_text_mix import Switched, _Field
from espnet_plugin.corpora.switch_text_pairs import Inputs
from espnet_plugin.corpora.switch_text_phrases import Phrase
from espnet_plugin.corpora.switch_text_plan import Plan, targets
from espnet_plugin.corpora.switch_text_run import Options
from tests.fixtures.switch_pairs import CODES, sentence_pairs, side, tagger

MADE = 300  # sentence pairs


def write_pairs(folder: Path, pairs: Iterable[tuple[str, str]]) -> Inputs:
    pairs = list(pairs)
    for name, n in (("a.txt", 0), ("b.txt", 1)):
        (folder / name).write_text("".join(pair[n] + "\n" for pair in pairs))
    return Inputs((str(folder / "a.txt"), str(folder / "b.txt")))


def records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_capitals_and_markup() -> None:
    matrix = side("Semalam saya beli kereta, murah.", 0)
    phrases = [Phrase(0, 0, "Yesterday", 1, True), Phrase(3, 3, "The car", 2, True)]
    phrases += [Phrase(3, 3, "I think", 2, True), Phrase(0, 0, "last week", 2, False)]
    made = _Field(matrix, phrases, CODES)
    assert made.build([0, 1]).markup == "[Yesterday] saya beli [the car], murah."
    assert made.build([3, 2]).markup == "[Last week] saya beli [I think], murah."
    english = side('He said, "buy a car" (today).', 1)
    made = _Field(english, [Phrase(2, 4, "beli kereta", 2, False)], CODES).build([0])
    assert made.markup == '[He said], "beli kereta" ([today]).'
    assert made.text == 'He said, "beli kereta" (today).'
    assert parse_markup(made.markup, "cs", "x")


def test_choosing_approaches_the_targets() -> None:
    patterns = read_patterns(None, CODES)
    wanted = targets(patterns, None)
    draw = random.Random(3)

    def random_shape() -> Shape:
        while True:  # lines that switch at any word: far from how people do
            codes = [draw.random() < 0.4 for _ in range(draw.randint(4, 12))]
            if (shape := shape_of(codes, 4)) and shape.switches <= 4:
                return shape

    offers = [[random_shape() for _ in range(6)] for _ in range(1000)]
    first = Patterns(CODES)
    for offer in offers:
        first.add(offer[0])
    chooser = Chooser(wanted, CODES, 0.3)
    for offer in offers:
        chooser.choose(offer)
    assert 0 < chooser.turned_away <= 0.3 * 1000
    for name in ("cmi", "switches", "embedded", "matrix", "place"):
        before = np.abs(first.shares(name) - wanted[name]).sum()
        after = np.abs(chooser.reached.shares(name) - wanted[name]).sum()
        assert after < 0.6 * before + 0.03, name

    half = Chooser(wanted, CODES, 0.3)
    for offer in offers[:700]:
        half.choose(offer)
    again = Chooser(wanted, CODES, 0.3)
    again.restore(json.loads(json.dumps(half.to_json())))
    assert [half.choose(o) for o in offers[700:900]] == [again.choose(o) for o in offers[700:900]]
    with pytest.raises(ValueError, match="turn_away is 1; allowed"):
        Chooser(wanted, CODES, 1)


def test_seen_is_a_set() -> None:
    draw = random.Random(0)
    values = [draw.getrandbits(64) for _ in range(3000)] + [0, 1, 1 << 63]
    seen = Seen()
    assert all(seen.add(value) for value in values[:-2])
    assert not seen.add(values[5])
    assert values[0] in seen
    assert values[-1] not in seen
    assert len(seen) == 3001


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict, Plan]:
    folder = tmp_path_factory.mktemp("switch")
    plan = Plan(write_pairs(folder, sentence_pairs(MADE)))
    report = switch_text.switch_text(
        plan, folder / "out.jsonl", Options(), lexicon_output=folder / "learnt.tsv"
    )
    return folder, report, plan


def test_text_follows_what_was_measured(made: tuple[Path, dict, Plan]) -> None:
    folder, report, _ = made
    assert report["lines"] > 0.6 * MADE
    for name, far in {"cmi": 0.15, "switches": 0.08, "matrix": 0.05, "embedded": 0.15}.items():
        assert report["distance"][name] < far, report["distance"]
    assert report["reached"]["cmi"] == pytest.approx(report["target"]["cmi"], abs=3)
    lines = records(folder / "out.jsonl")
    measured = measure([[line["text"] for line in lines]], tagger())
    assert measured.figures()["cmi"] == report["reached"]["cmi"]
    figures = report["statistics"]
    assert figures["cmi_of_switching_lines"] == pytest.approx(report["reached"]["cmi"], abs=0.01)
    assert (
        sum(report["dropped"].values()) + report["turned_away"] + report["sentences_used"] == MADE
    )


def test_lines_are_what_they_say(made: tuple[Path, dict, Plan]) -> None:
    folder, report, _ = made
    lines = records(folder / "out.jsonl")
    assert len({line["text"].lower() for line in lines}) == len(lines) == report["lines"]
    sources = [(folder / name).read_text().splitlines() for name in ("a.txt", "b.txt")]
    for line in lines:
        stretches = parse_markup(line["markup"], line["lang"], "x")
        assert "".join(s.text for s in stretches) == line["text"]
        assert line["text"][0].isupper() and line["text"].endswith(".")
        file, _, number = line["from"].rpartition(":")
        assert file == str(folder / "a.txt")
        frame = sources[line["matrix"] == "en"][int(number) - 1].lower()
        other = sources[line["matrix"] == "ms"][int(number) - 1].lower()
        for stretch in stretches:  # each stretch is a piece of the sentence in its language
            if words := stretch.text.strip(" .,").lower():
                assert words in (frame if stretch.lang == line["matrix"] else other)
    learnt = (folder / "learnt.tsv").read_text()
    assert "membasuh\twashed\n" in learnt


class Reversed:
    """An executor that does the units of a window last to first."""

    def __init__(self, workers: int) -> None:
        self.workers = workers

    def __enter__(self) -> "Reversed":
        return self

    def __exit__(self, *rest: object) -> None:
        pass

    def ordered_map(self, fn, items) -> Iterator:
        window: list = []
        for item in items:
            window.append(item)
            if len(window) == 3:
                yield from [fn(x) for x in window[::-1]][::-1]
                window = []
        yield from [fn(x) for x in window[::-1]][::-1]


def test_the_same_however_the_work_is_divided_and_after_a_kill(
    made: tuple[Path, dict, Plan], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    folder, _, plan = made
    whole = (folder / "out.jsonl").read_bytes()
    monkeypatch.setattr(switch_text_pairs, "UNIT_LINES", 55)
    monkeypatch.setattr(switch_text_run, "COMMIT_LINES", 40)
    real = switch_text_run.make_candidates
    calls = []

    def killed(*args: object) -> object:
        calls.append(args)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(switch_text_run, "make_candidates", killed)
    with pytest.raises(KeyboardInterrupt):
        switch_text.switch_text(plan, tmp_path / "out.jsonl", Options())
    assert not (tmp_path / "out.jsonl").exists()
    assert [p.name for p in tmp_path.iterdir()] == [".out.work"]
    monkeypatch.setattr(switch_text, "LocalExecutor", Reversed)
    report = switch_text.switch_text(plan, tmp_path / "out.jsonl", Options(nj=7))
    assert len(calls) == 4 + 3  # of 6 units, 3 were done
    assert (tmp_path / "out.jsonl").read_bytes() == whole
    assert report["lines"] == len(whole.splitlines())
    assert not (tmp_path / ".out.work").exists()
    assert switch_text.switch_text(plan, tmp_path / "out.jsonl", Options())["unchanged"]
    assert len(calls) == 7
    other = switch_text.switch_text(replace(plan, seed=1), tmp_path / "out.jsonl", Options())
    assert "unchanged" not in other
    assert (tmp_path / "out.jsonl").read_bytes() != whole


@pytest.mark.slow
def test_the_same_with_processes(made: tuple[Path, dict, Plan], tmp_path: Path) -> None:
    folder, _, plan = made
    switch_text.switch_text(plan, tmp_path / "out.jsonl", Options(nj=2))
    assert (tmp_path / "out.jsonl").read_bytes() == (folder / "out.jsonl").read_bytes()


def test_nothing_that_is_tested_on_is_made(made: tuple[Path, dict, Plan], tmp_path: Path) -> None:
    folder, _, plan = made
    before = records(folder / "out.jsonl")
    banned = [before[0]["text"].upper(), before[5]["text"]]
    source = (folder / "b.txt").read_text().splitlines()[20]
    (tmp_path / "text").write_text(f"spk-1 {banned[0]}\nspk-2 {banned[1]}\n")
    (tmp_path / "valid.jsonl").write_text(json.dumps({"text": source}) + "\n")
    report = switch_text.switch_text(
        plan, tmp_path / "o.jsonl", Options(lines=60), [tmp_path / "text", tmp_path / "valid.jsonl"]
    )
    after = records(tmp_path / "o.jsonl")
    assert len(after) == 60
    texts = {line["text"].lower() for line in after}
    assert not texts & {text.lower() for text in banned}
    same = [n for n, (_, b) in enumerate(sentence_pairs(MADE), 1) if b == source]
    assert not {f"{folder / 'a.txt'}:{n}" for n in same} & {line["from"] for line in after}
    assert report["dropped"]["excluded"] >= 1


def test_a_wanted_index_is_followed(made: tuple[Path, dict, Plan], tmp_path: Path) -> None:
    _, report, plan = made
    low = switch_text.switch_text(
        replace(plan, cmi=18.0), tmp_path / "low.jsonl", Options(lines=400)
    )
    assert low["target"]["cmi"] == 18
    assert low["reached"]["cmi"] < report["reached"]["cmi"] - 4


def test_one_file_with_two_fields(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    pairs = sentence_pairs(120)
    rows = [json.dumps({"ms": a, "en": b}) for a, b in pairs]
    rows += [json.dumps({"ms": "Tiada terjemahan."}), "{", json.dumps({"ms": "[x] y", "en": "z"})]
    with gzip.open(tmp_path / "c.jsonl.gz", "wt") as file:
        file.write("\n".join(rows) + "\n")
    command = ["switch", "--parallel", str(tmp_path / "c.jsonl.gz"), "--fields", "ms,en"]
    synth_data.main([*command, "--output", str(tmp_path / "o.jsonl"), "--per_sentence", "2"])
    report = json.loads((tmp_path / "o.report.json").read_text())
    assert report["lines"] > report["sentences_used"] > 80
    assert report["dropped"]["not_json"] == report["dropped"]["missing_field"] == 1
    assert report["dropped"]["has brackets"] == 1
    said = capsys.readouterr().out
    assert f"{report['lines']} lines of {report['sentences_used']} sentences (123 read" in said
    assert "reached" in said and "phrases refused: " in said
    (tmp_path / "c.tsv").write_text("en\tms\n" + "".join(f"{b}\t{a}\n" for a, b in pairs))
    command[2:5] = [str(tmp_path / "c.tsv"), "--fields", "ms,en"]
    synth_data.main([*command, "--output", str(tmp_path / "t.jsonl")])
    assert len(records(tmp_path / "t.jsonl")) > 80


def test_monolingual_text_with_a_lexicon(tmp_path: Path) -> None:
    (tmp_path / "mono.jsonl").write_text(
        json.dumps({"text": "Jiran saya beli kereta merah semalam.", "lang": "ms"}) + "\n"
        + json.dumps({"text": "My neighbour washed the car yesterday.", "lang": "en"}) + "\n"
        + json.dumps({"text": "Jom lunch, saya lapar.", "lang": "cs"}) + "\n"
        + json.dumps({"text": "Mak cik tidur nyenyak."}) + "\n"
    )  # fmt: skip
    lexicon = tmp_path / "lexicon.tsv"
    entries = ["kereta merah\tred car", "kereta\tcar", "semalam\tyesterday"]
    lexicon.write_text("\n".join([*entries, "jiran saya\tmy neighbour\n"]))
    command = ["switch", "--monolingual", str(tmp_path / "mono.jsonl"), "--lexicon", str(lexicon)]
    command += ["--output", str(tmp_path / "o.jsonl"), "--per_sentence", "3", "--turn_away", "0"]
    (tmp_path / "o.jsonl").write_text("a corpus of someone's own")
    with pytest.raises(ValueError, match=r"o.jsonl: exists, and would be lost"):
        synth_data.main(command)
    (tmp_path / "o.jsonl").unlink()
    synth_data.main(command)
    lines = records(tmp_path / "o.jsonl")
    frames = {line["from"][-1]: line["matrix"] for line in lines}
    assert frames == {"1": "ms", "2": "en"}
    for line in lines:
        assert not {"[red]", "[car] merah"} & {line["markup"]}
    report = json.loads((tmp_path / "o.report.json").read_text())
    assert report["dropped"] == {"in neither language (cs)": 1, "no phrase to exchange": 1}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ([], ValueError, "give either --parallel or --monolingual"),
        (["--parallel", "a.txt"], ValueError, "two aligned files, or one file with --fields"),
        (["--parallel", "a.txt", "--fields", "ms,en"], ValueError, "a.txt: has no fields"),
        (["--parallel", "a.txt", "no.txt"], FileNotFoundError, "no.txt"),
        (["--parallel", "a.txt", "short.txt"], ValueError, "short.txt: ends at line 1, a.txt goes"),
        (["--parallel", "short.txt", "a.txt"], ValueError, "short.txt: ends at line 1, a.txt goes"),
        (["--parallel", "t.tsv", "--fields", "ms,em"], ValueError, "no column 'em'.*found: ms, en"),
        (["--parallel", "t.tsv", "--fields", "ms"], ValueError, "--fields is FIRST,SECOND"),
        (["--monolingual", "a.txt"], ValueError, "--lexicon is needed"),
        (["--parallel", "a.txt", "a.txt", "--alignment", "lexicon"], ValueError, "needs --lexicon"),
        (["--parallel", "a.txt", "a.txt", "--cmi", "80"], ValueError, "--cmi 80: a mean of 80"),
        (["--parallel", "a.txt", "a.txt", "--output", "x.txt"], ValueError, "x.txt: the output is"),
        (["--parallel", "a.txt", "a.txt", "--nj", "0"], ValueError, "nj is at least 1"),
        (["--parallel", "a.txt", "a.txt"], ValueError, "no line can be made of 2 sentences"),
        (["--parallel", "a.txt", "a.txt", "--pair", "mx-en"], FileNotFoundError, "mx-en"),
    ],
)  # fmt: skip
def test_mistakes_are_named(
    arguments: list[str],
    error: type[Exception],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_text("Saya makan nasi.\nDia tidur.\n")
    Path("short.txt").write_text("I eat rice.\n")
    Path("t.tsv").write_text("ms\ten\nDia tidur.\tHe sleeps.\n")
    given = [] if "--output" in arguments else ["--output", "o.jsonl"]
    with pytest.raises(error, match=message):
        synth_data.main(["switch", *arguments, *given])
    assert not Path("o.jsonl").exists()


def test_switched_text_joins() -> None:
    made = Switched((("Saya ", 0), ("go home", 1), (".", 0)), 0)
    assert (made.text, made.markup) == ("Saya go home.", "Saya [go home].")


@pytest.mark.slow
def test_another_pair_by_configuration(tmp_path: Path) -> None:
    real = ["Mañana vamos a shopping con mi tía.", "I love the comida de mi abuela, really."]
    (tmp_path / "real.txt").write_text("\n".join(real) + "\n")
    (tmp_path / "rules.yaml").write_text(
        "es: {determiners: [el la los las un una mi], openers: [de a con por en que y]}\n"
        "en: {determiners: [the a my], openers: [of to with for in that and is]}\n"
    )
    (tmp_path / "lexicon.tsv").write_text("la comida\tthe food\nmañana\ttomorrow\n")
    (tmp_path / "mono.txt").write_text("Mañana compramos la comida para la fiesta.\n")
    pair = ["--pair", "es-en", "--output"]
    patterns = str(tmp_path / "patterns.json")
    synth_data.main(["patterns", "--input", str(tmp_path / "real.txt"), *pair, patterns])
    command = ["switch", "--monolingual", str(tmp_path / "mono.txt"), *pair]
    command += [str(tmp_path / "o.jsonl"), "--lexicon", str(tmp_path / "lexicon.tsv")]
    with pytest.raises(FileNotFoundError, match="no rules of switching ship for es-en"):
        synth_data.main([*command, "--patterns", patterns])
    rules = str(tmp_path / "rules.yaml")
    synth_data.main([*command, "--patterns", patterns, "--rules", rules, "--turn_away", "0"])
    (line,) = records(tmp_path / "o.jsonl")
    assert line["matrix"] == "es"
    assert line["markup"] in (
        "[Tomorrow] compramos la comida para la fiesta.",
        "Mañana compramos [the food] para la fiesta.",
    )
