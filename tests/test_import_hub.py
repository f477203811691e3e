"""The hub, on the loopback interface: what is fetched, what is cached, what offline means."""

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.importers import RECORD, hub, import_model, read_source
from tests.fixtures.loopback_hub import COMMIT, loopback_hub

REPO = "someone/tiny-whisper"


def quiet(_: str) -> None:
    pass


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, no offline switch, and no hub that answers."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def test_import_from_the_hub_then_offline(cache, make_whisper, tmp_path, monkeypatch):
    directory = make_whisper("served")
    (directory / "model.fp32-00001-of-00002.safetensors").write_bytes(b"not wanted")
    (directory / "flax_model.msgpack").write_bytes(b"not wanted")
    with loopback_hub(directory, REPO) as (endpoint, fetched):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        assert hub.reachable(REPO, 5) is None
        output = import_model(REPO, tmp_path / "out", log=quiet)
        with pytest.raises(FileNotFoundError, match="at revision v9: the hub has no such model"):
            read_source(REPO, "v9", quiet)
        with pytest.raises(FileNotFoundError, match="someone/other: the hub has no such model"):
            read_source("someone/other", log=quiet)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(directory)
    record = ck.read_json(output / RECORD)
    assert (record["road"], record["commit"]) == ("hub", COMMIT)
    assert set(fetched) == {
        *("config.json", "generation_config.json", "preprocessor_config.json"),
        *("model.safetensors", "tokenizer.json", "tokenizer_config.json"),
    }
    assert import_model(REPO, tmp_path / "out", log=quiet) == output  # done: the hub is gone
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    source = read_source(REPO, log=quiet)
    assert source.road == "hub cache (offline)"
    assert source.files == record["files"]


def test_offline_without_a_cache(cache, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = (
        "HF_HUB_OFFLINE is set and the hub's local cache does not have it; without a hub, give"
    )
    with pytest.raises(FileNotFoundError, match=message):
        read_source(REPO, log=quiet)
    assert hub.reachable(REPO, 5) == "HF_HUB_OFFLINE is set"


def test_unreachable_hub_names_the_alternatives(cache):
    message = r"(?s)someone/tiny-whisper: .*an openai-whisper \.pt file, a CTranslate2 directory"
    with pytest.raises(FileNotFoundError, match=message):
        read_source(REPO, log=quiet)
    assert "refused" in hub.reachable(REPO, 5)


def test_a_silent_hub_costs_only_so_long(cache, monkeypatch):
    import socket
    import time

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.getsockname()[1]}")
        start = time.monotonic()
        assert hub.reachable(REPO, 0.3)
        assert time.monotonic() - start < 2


def test_incomplete_repositories_are_named(cache, make_whisper, monkeypatch):
    directory = make_whisper("served")
    (directory / ck.WEIGHTS).unlink()
    with loopback_hub(directory, REPO) as (endpoint, _):
        monkeypatch.setenv("HF_ENDPOINT", endpoint)
        with pytest.raises(FileNotFoundError, match="lacks its weights"):
            read_source(REPO, log=quiet)


def test_a_mistyped_directory_is_not_only_a_hub_id(cache, tmp_path, monkeypatch):
    (tmp_path / "exp").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="exp/initt: no such directory, and exp/initt"):
        read_source("exp/initt", log=quiet)
