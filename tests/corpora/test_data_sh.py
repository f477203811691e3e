import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from espnet_plugin.corpora.corpus import REGISTRY, corpus_named
from espnet_plugin.corpora.validate import validate_data_dir
from espnet_plugin.data import read_table
from tests.fixtures.nsc import wav_bytes, write
from tests.fixtures.public_files import jsonl

ROOT = Path(__file__).parents[2]


def data_sh(tmp_path: Path, *options: str, **variables: str) -> subprocess.CompletedProcess:
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LD_LIBRARY_PATH")}
    return subprocess.run(
        [ROOT / "local/data.sh", "--datadir", str(tmp_path / "data"), "--nj", "1", *options],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=kept | {"python": sys.executable, "PYTHONDONTWRITEBYTECODE": "1"} | variables,
    )


def test_nothing_configured_explains_itself(tmp_path):
    result = data_sh(tmp_path)
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "nothing is configured: no corpora are named" in result.stderr
    assert "egs2_asyncswitch/asr1/db.sh" in result.stderr
    assert 'NSC=/data/nsc local/data.sh --corpora "nsc"' in result.stderr
    for name in REGISTRY:  # each with its licence, variable and options
        corpus = corpus_named(name)
        assert f"{name}: {corpus.title}\n  licence: {corpus.licence.name} (" in result.stderr
        assert f"  {corpus.variable}: not set" in result.stderr
        for option in corpus.options:
            assert f"  option {name}.{option} [" in result.stderr
    assert not (tmp_path / "data").exists()


@pytest.mark.slow
def test_from_a_variable_to_the_sets_of_the_recipe(tmp_path):
    rows = []
    for n in range(6):
        write(tmp_path / f"my files/{n}.wav", wav_bytes(0.5, n))
        split = ("train", "test")[n % 2]
        rows.append({"audio": f"{n}.wav", "text": f"ayat {n}", "speaker": f"s{n}", "split": split})
    jsonl(tmp_path / "my files/t.jsonl", rows)
    table = str(tmp_path / "my files/t.jsonl")
    options = ["--corpora", "manifest", "--sets", "train_paired test_ms", "--corpus-options"]
    options += ["manifest.language=ms"]
    result = data_sh(tmp_path, *options, train_paired="manifest_train", test_ms="", MANIFEST=table)
    assert result.returncode == 2 and "licence: " in result.stdout
    assert "the recipe needs sets that are not in" in result.stderr
    assert 'test_ms="nsc_cs_train nsc_part1_train"' in result.stderr
    variables = {"train_paired": "manifest_train", "test_ms": "manifest_test", "MANIFEST": table}
    result = data_sh(tmp_path, *options, **variables)
    assert result.returncode == 0, result.stderr
    assert "all sets are there, or what they are made of" in result.stdout
    for name, count in (("train_paired", 3), ("test_ms", 3)):
        assert len(read_table(tmp_path / "data" / name / "text")) == count
        assert validate_data_dir(tmp_path / "data" / name) == []
    again = data_sh(tmp_path, *options, **variables)
    assert "all sets are there, or what they are made of: train_paired test_ms" in again.stdout
    assert "corpora are not read again; where files or options have changed" in again.stdout
    result = data_sh(tmp_path, "--corpora", "malay_conversational", MALAY_CONVERSATIONAL=table)
    assert result.returncode == 2 and "give --accept_non_commercial true" in result.stderr
    assert "CC BY-NC-ND 4.0 (NO commercial use)" in result.stdout + result.stderr
    result = data_sh(tmp_path, "--corpora", "nsc", NSC=str(tmp_path / "none"))
    assert result.returncode == 2 and "no such folder; it should hold IMDA" in result.stderr


def test_a_set_is_made_again_where_db_sh_or_its_parts_have_changed(tmp_path):
    def kaldi(name, *texts):
        utts = [f"{name}-{n}" for n in range(len(texts))]
        for file, values in (
            ("wav.scp", ["/x.wav"] * 9),
            ("text", texts),
            ("utt2lang", ["ms"] * 9),
        ):
            lines = (f"{u} {v}\n" for u, v in zip(utts, values, strict=False))
            write(tmp_path / "my data" / name / file, "".join(lines))
        write(tmp_path / "my data" / name / "utt2spk", "".join(f"{u} {u}\n" for u in utts))

    def made(*names, **variables):
        options = ["--datadir", str(tmp_path / "my data"), "--sets", "train mine"]
        result = data_sh(tmp_path, *options, train=" ".join(names), **variables)
        assert result.returncode == 0, result.stderr
        return read_table(tmp_path / "my data/train/text"), result.stdout

    for name in ("a", "b", "mine"):
        kaldi(name, "satu")
    assert made("a", "b")[0] == {"a-0": "satu", "b-0": "satu"}
    assert "done already" in made("a", "b", mine="a")[1]
    assert "my data/mine: taken as it is; it was not made of a" in made("a", "b", mine="a")[1]
    assert made("a")[0] == {"a-0": "satu"}  # db.sh says otherwise
    kaldi("a", "satu", "dua")
    assert made("a")[0] == {"a-0": "satu", "a-1": "dua"}  # prepared anew
    shutil.rmtree(tmp_path / "my data/a")
    assert "all sets are there" in made("a")[1]  # the part is needed no more


def test_the_table_of_the_readme_and_db_sh_have_every_corpus():
    readme = (ROOT / "local/README.md").read_text()
    rows = [line for line in readme.splitlines() if line.startswith("| `")]
    database = (ROOT / "egs2_asyncswitch/asr1/db.sh").read_text()
    for name, place in REGISTRY.items():
        corpus = corpus_named(name)
        (row,) = (line for line in rows if f"`{name}`" in line.split("|")[1])
        script, test = re.findall(r"\]\(\.\./([^)]*)\)", row)
        assert script == place.partition(":")[0].replace(".", "/") + ".py"
        assert (ROOT / script).is_file() and (ROOT / test).is_file()
        if corpus.licence.commercial is False:
            assert "`--accept_non_commercial true`" in row
        assert f"\n{corpus.variable}=${{{corpus.variable}:-}}\n" in database


@pytest.mark.parametrize("name", REGISTRY)
def test_wrong_roots_say_what_was_expected_there(name, tmp_path):
    corpus = corpus_named(name)
    from espnet_plugin.corpora.prepare import Settings, prepare
    from espnet_plugin.corpora.splits import Shares

    settings = Settings({}, Shares(0, 0), non_commercial=True)
    (tmp_path / "empty").mkdir()
    write(tmp_path / "other/notes.txt", "nothing of this kind")
    (tmp_path / "broken").symlink_to(tmp_path / "nowhere")
    for place in ("none", "empty", "other", "other/notes.txt", "broken"):
        with pytest.raises((FileNotFoundError, ValueError)) as error:
            prepare(corpus, str(tmp_path / place), tmp_path / "data", settings)
        message = str(error.value)
        assert message.startswith(f"{corpus.variable}={tmp_path}/{place}: "), message
        if name != "manifest":
            assert corpus.layout in message
    assert not list(tmp_path.glob("data/*_*"))
