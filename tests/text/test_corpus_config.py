import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

from espnet_plugin.text.corpus import config as module
from espnet_plugin.text.corpus.config import CorpusConfig, read_settings
from espnet_plugin.text.corpus.plan import Plan

YAML = Path(__file__).resolve().parents[2] / "conf/text_corpus.yaml"


def read(tmp_path: Path, text: str, **given: object) -> CorpusConfig:
    path = tmp_path / "c.yaml"
    path.write_text(text)
    return read_settings(CorpusConfig, path, **given)


def test_every_field_is_documented_in_the_class_and_stands_in_the_yaml() -> None:
    tree = ast.parse(inspect.getsource(module))
    (kind,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "CorpusConfig"]
    documented = [
        field.target.id
        for field, text in zip(kind.body, kind.body[1:], strict=False)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and isinstance(text, ast.Expr)
    ]
    names = [field.name for field in dataclasses.fields(CorpusConfig)]
    assert documented == names
    assert sorted(yaml.safe_load(YAML.read_text())) == sorted(names)


def test_the_yaml_differs_from_the_defaults_where_it_says_so() -> None:
    given = dataclasses.asdict(read_settings(CorpusConfig, YAML))
    other = {n for n, v in dataclasses.asdict(CorpusConfig()).items() if given[n] != v}
    lines = YAML.read_text().splitlines()
    assert other == {line.split(":")[0] for line in lines if "; default: " in line}


def test_values_of_the_command_line_win_and_absent_ones_do_not(tmp_path: Path) -> None:
    found = read(tmp_path, "field: body\nstrict: true\n", field="text", strict=None)
    assert (found.field, found.strict) == ("text", True)
    assert read(tmp_path, "").field == "text"
    assert read(tmp_path, "scripts: [Latin]\nmin_cmi: 5").scripts == ("Latin",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_word: 5", r"c.yaml: unknown setting 'max_word' \(did you mean max_words\?\)"),
        ("max_words: many", "c.yaml: max_words: found 'many', allowed is a whole number or null"),
        ("max_words: 2.5", "max_words: found 2.5, allowed is a whole number"),
        ("max_words: true", "max_words: found True"),
        ("strict: 1", "strict: found 1, allowed is true or false"),
        ("min_cmi: high", "min_cmi: found 'high', allowed is a number"),
        ("scripts: Latin", "scripts: found 'Latin', allowed is a list of texts"),
        ("languages: [1]", r"languages: found \[1\], allowed is a list of texts or null"),
        ("languages: []", "languages: empty, nothing would be kept"),
        ("- a", "c.yaml: a mapping 'name: value' is expected"),
        ("a: [", "c.yaml: not YAML"),
        ("line_language: tag", r"line_language: 'tag' \(did you mean tags\?\); given or tags"),
        ("text_style: spken", r"text_style: 'spken' \(did you mean spoken\?\)"),
        ("min_words: 5\nmax_words: 4", "min_words: 5; it is from 0 to 4"),
        ("max_words: 0", "max_words: 0; it is at least 1"),
        ("max_cmi: 101", "max_cmi: 101.0; it is from 0 to 100"),
        ("min_cmi: 30\nmax_cmi: 20", "min_cmi: 30.0; it is from 0 to 20.0"),
        ("valid_share: 1", "valid_share: 1.0; it lies between 0 and 1"),
        ("near_threshold: 0", "near_threshold: 0.0; it lies between 0 and 1"),
        ("pair: null\nmin_cmi: 5", "min_cmi and max_cmi need the words' tags: set pair"),
        ("pair: null\nline_language: tags", "needs the words' tags: set pair"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no.yaml"):
        read_settings(CorpusConfig, tmp_path / "no.yaml")


@pytest.mark.parametrize(
    ("settings", "lang", "message"),
    [
        ({"scripts": ("Lating",)}, None, r"has no script 'Lating' \(did you mean Latin\?\)"),
        ({"max_tokens": 444}, None, "max_tokens: 444; beside prompt and end, 443 fit in 448"),
        ({"languages": ("cs", "mss")}, None, r"language 'mss' is not in lang_tokens \(did you"),
        ({}, "mss", r"--lang: language 'mss' is not in lang_tokens \(did you mean ms\?\)"),
        ({"clean": ("whitspace",)}, None, "did you mean whitespace"),
        ({"pair": "ms-em"}, None, "did you mean ms-en"),
    ],
)
def test_choices_are_checked_before_any_work(
    tiny_whisper: Path, settings: dict, lang: str | None, message: str
) -> None:
    languages = (("cs", "ms"), ("ms", "ms"), ("en", "en"))
    plan = Plan(CorpusConfig(**settings), str(tiny_whisper), languages, lang, "/nowhere")
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        plan.check()


def test_a_language_that_whisper_lacks_is_named(tiny_whisper: Path) -> None:
    plan = Plan(CorpusConfig(), str(tiny_whisper), (("cs", "msa"),), None, "/nowhere")
    with pytest.raises(ValueError, match="has no language 'msa'"):
        plan.check()
