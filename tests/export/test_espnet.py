"""ESPnet's packed zip, and the table of all formats: the export tests that import ESPnet."""

import os
import zipfile

import pytest
import yaml

from espnet_plugin import checkpoint as ck
from espnet_plugin.export import export_model, parse_targets, target
from espnet_plugin.export.matrix import round_trips
from espnet_plugin.export.plan import plan
from espnet_plugin.importers import import_model
from tests.export.conftest import TABLE, TOKENS


def quiet(_: str) -> None:
    pass


@pytest.fixture(scope="module")
def packed(whisper_dir, expdir, verifier, tmp_path_factory):
    """Verified by ESPnet, which unpacks it and searches; the config is the adapted model's."""
    output = tmp_path_factory.mktemp("espnet") / "export_espnet"
    export_model(whisper_dir, target("espnet"), output, verifier, quiet)
    return output


def test_round_trip(packed, whisper_dir, tmp_path):
    record = ck.read_json(packed / "export.json")
    checked = record["verification"]
    assert checked["runtime"].startswith("ESPnet") and checked["differences"] == []
    assert checked["words"] >= 8 and checked["allowed_percent"] == 0
    assert record["weights"]["identical"] and list(record["files"]) == ["espnet.zip"]
    back = import_model(str(packed), tmp_path / "back", log=quiet)
    assert ck.tensor_hashes(back) == ck.tensor_hashes(whisper_dir)
    for file in ("generation_config.json", "tokenizer.json", "tokens.txt"):
        assert (back / file).read_bytes() == (whisper_dir / file).read_bytes()


def test_what_is_packed(packed):
    with zipfile.ZipFile(packed / "espnet.zip") as archive:
        names = archive.namelist()
        meta = yaml.safe_load(archive.read("meta.yaml"))
        config = yaml.safe_load(archive.read("config.yaml"))
        texts = [archive.read(name) for name in names]
    assert meta["files"] == {"asr_model_file": "model.safetensors"}
    assert meta["yaml_files"] == {"asr_train_config": "config.yaml"}
    assert all("/" not in name for name in names) and len(names) == len(set(names))
    assert config["model_conf"] == {"pad": "batch", "lang_tokens": TABLE}  # the adapted model's
    assert not any(b"/home/" in text for text in texts)  # nor its paths


def test_from_pretrained(packed, verifier, whisper_dir, tmp_path, monkeypatch):
    """A user's way: ESPnet's model zoo unpacks, the plugin's class loads."""
    import espnet_plugin

    monkeypatch.setenv("HOME", str(tmp_path))
    recognise = espnet_plugin.Speech2Text.from_pretrained(
        str(packed / "espnet.zip"), language="ms", beam_size=1, maxlenratio=-TOKENS, pad="30s"
    )
    recognise.asr_model.decoder.choose("ms", False, "whisper")
    text = recognise(verifier.clips[0].wave)[0][0]
    assert text == verifier.expected(whisper_dir)[1][0]
    assert recognise.asr_model.prompt.lang_tokens == {"cs": "ms", "ms": "ms", "en": "en"}
    assert os.listdir(tmp_path / ".cache/espnet_model_zoo")


def test_a_repository_that_espnet_loads(packed, published, whisper_dir, tmp_path, monkeypatch):
    """The Hugging Face export and ESPnet's two small files, side by side, as a hub keeps them."""
    from espnet_model_zoo.downloader import ModelDownloader

    from espnet_plugin import Speech2Text

    monkeypatch.setenv("HOME", str(tmp_path))
    items = plan([published["hf"], packed], "card")
    added = {item.path for item in items} - {i.path for i in plan([published["hf"]], "card")}
    assert added == {"config.yaml", "meta.yaml"}
    for item in items:
        (tmp_path / item.path).write_bytes(item.data())
    found = ModelDownloader._unpack_cache_dir_for_huggingface(tmp_path)
    assert found["asr_model_file"] == str(tmp_path / "model.safetensors")
    model = Speech2Text(**found, language="en").asr_model
    expected = ck.load_state(whisper_dir)[ck.EMBEDDING]
    assert (model.whisper.decoder.embed_tokens.weight == expected).all()
    export_model(whisper_dir, target("hf", "float16"), tmp_path / "half", None, quiet)
    with pytest.raises(ValueError, match="is not that of the export to hf, which it is to share"):
        plan([tmp_path / "half", packed], "card")


@pytest.mark.slow
def test_table_of_formats(whisper_dir, expdir, verifier):
    rows = round_trips(whisper_dir, parse_targets(["openai:float16"]), verifier, quiet).splitlines()
    head = "| format | weights after the round trip | transformers | openai-whisper | "
    assert rows[0] == head + "faster-whisper | ESPnet |"
    cells = [cell.strip() for cell in rows[2].strip("|").split("|")]
    assert cells[0] == "openai-whisper float16" and cells[1].startswith("within 4.")
    assert cells[3].startswith("**") and not cells[2].startswith("**") and len(cells) == 6
    assert all("identical" in cell or "differ" in cell for cell in cells[2:])
    words = verifier.expected(whisper_dir)[1]
    assert f"2 utterances ({len(' '.join(words).split())} words)" in rows[-1]
