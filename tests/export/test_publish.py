"""Uploads to a hub on the loopback interface: what goes, what is there, what is never sent."""

import os

import pytest

from espnet_plugin import checkpoint as ck
from espnet_plugin.bin import publish as command
from espnet_plugin.export.plan import Item, plan
from espnet_plugin.export.publish import publish
from espnet_plugin.importers import import_model
from tests.export.conftest import SYSTEM
from tests.fixtures.loopback_hub import serve
from tests.fixtures.recipe import ROOT

REPO = "me/mixed"
TOKEN = "hf_" + "s" * 34


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub to write to, a token for it, and a cache of one's own."""
    from huggingface_hub import constants

    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)  # the loopback hub speaks LFS
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with serve() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def items(*contents: bytes) -> list[Item]:
    return [Item.of(f"file-{i}.bin", content) for i, content in enumerate(contents)]


def test_command(expdir, published, hub, tmp_path, capsys):
    options = ["--expdir", str(expdir), "--system", SYSTEM, "--repo", REPO]
    options += ["--card", str(ROOT / "conf/demo/card.yaml")]
    command.main([*options, "--dry-run"])
    said = capsys.readouterr().out
    assert f"{REPO} (to be made, private):" in said and "15 of 15 files to send" in said
    assert hub.repos == {} and hub.sent == []
    command.main(options)
    said = capsys.readouterr().out
    repo = hub.repos[REPO]
    assert repo.private and len(repo.messages) == 1 and hub.tokens == {TOKEN}
    assert repo.files["README.md"] == (expdir / SYSTEM / "MODEL_CARD.md").read_bytes()
    assert (
        repo.files["openai-whisper/whisper.pt"] == (published["openai"] / "whisper.pt").read_bytes()
    )
    assert repo.files["ctranslate2/model.bin"] == (published["ct2"] / "model.bin").read_bytes()
    assert not any(name.endswith("export.json") for name in repo.files)
    record = ck.read_json(expdir / SYSTEM / "publish.json")
    assert (record["commit"], record["private"]) == (repo.commit, True)
    for name, digest in record["files"].items():
        assert Item.of(name, repo.files[name]).sha256 == digest
    written = [said.encode(), *(p.read_bytes() for p in expdir.rglob("*") if p.is_file())]
    assert not any(TOKEN.encode() in part for part in [*written, *repo.files.values()])
    sent = len(hub.sent)
    command.main(options)  # again: nothing to do
    assert "0 of 15 files to send, 0.0 MB" in capsys.readouterr().out
    assert len(hub.sent) == sent and len(repo.messages) == 1
    output = import_model(REPO, tmp_path / "back", revision=repo.commit, log=lambda _: None)
    assert ck.tensor_hashes(output) == ck.tensor_hashes(expdir / SYSTEM)
    assert ck.read_json(output / "import.json")["commit"] == repo.commit
    assert not any("/" in name for name in hub.fetched)  # not the other formats


def test_an_interrupted_upload_goes_on(hub):
    files = items(b"a" * 2_000_000, b"b" * 3_000_000, b"c" * 12_000, b"small")
    said: list[str] = []
    hub.fail_at = 2
    with pytest.raises(ValueError, match=r"does not take it \(403.*run the same command again"):
        publish(files, REPO, log=said.append)
    assert hub.repos[REPO].files == {} and len(hub.sent) == 2  # no half of it
    commit = publish(files, REPO, log=said.append)
    assert hub.sent[2:] == [files[1].sha256, files[2].sha256]  # the first was kept
    assert hub.repos[REPO].files == {item.path: item.data() for item in files}
    assert said[-1] == f"{REPO}: complete at commit {commit}; load it with revision={commit}"


def test_only_what_has_changed_is_sent(hub):
    publish(items(b"a" * 20_000, b"b" * 20_000, b"small"), REPO, private=False, log=print)
    hub.repos[REPO].files["notes.txt"] = b"theirs"
    said: list[str] = []
    with pytest.raises(ValueError, match="exists already and is public; give --private false"):
        publish(items(b"new"), REPO, log=print)
    publish(items(b"a" * 20_000, b"c" * 20_000, b"small!"), REPO, private=False, log=said.append)
    states = {line.split()[-1]: line.split()[0] for line in said if " file-" in line}
    assert states == {"file-0.bin": "there", "file-1.bin": "send", "file-2.bin": "send"}
    assert any("notes.txt (there, not ours: left as it is)" in line for line in said)
    assert len(hub.sent) == 3 and hub.repos[REPO].files["notes.txt"] == b"theirs"


def test_offline_says_what_is_left(hub, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ValueError, match="HF_HUB_OFFLINE is set: nothing can be uploaded .* load"):
        publish(items(b"x"), REPO, log=print)
    said: list[str] = []
    assert publish(items(b"x"), REPO, dry_run=True, log=said.append) is None
    assert "the hub was not asked" in said[0] and "1 of 1 files to send" in said[-1]
    assert hub.repos == {}


def test_no_token_and_no_hub(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    with pytest.raises(ValueError, match="no access token: run 'hf auth login', or set HF_TOKEN"):
        publish(items(b"x"), REPO, log=print)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: TOKEN)
    with pytest.raises(ValueError, match=r"the hub refuses the token \(401"):
        publish(items(b"x"), REPO, log=print)  # none in the environment: the request has none
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(ValueError, match="the hub cannot be reached .*refused.*load by path"):
        publish(items(b"x"), REPO, log=print)
    with pytest.raises(ValueError, match="repository 'mixed': owner/name is expected"):
        publish(items(b"x"), "mixed", log=print)


def test_secrets_are_not_sent(published, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"README\.md: holds what looks like an access tok") as e:
        plan([published["hf"]], f"my token is {TOKEN}")
    assert TOKEN not in str(e.value)
    monkeypatch.setenv("HF_TOKEN", "another-kind-of-token")
    with pytest.raises(ValueError, match="holds what looks like an access token"):
        plan([published["hf"]], "another-kind-of-token")


def test_the_root_is_hugging_face(published):
    with pytest.raises(ValueError, match="an export to hf is missing"):
        plan([published["openai"]], "card")
    with pytest.raises(ValueError, match="would be published twice"):
        plan([published["hf"], published["hf"]], "card")
    paths = [item.path for item in plan(list(published.values()), "card")]
    assert paths == sorted(paths) and "config.json" in paths
    assert os.path.dirname(paths[-1]) in ("", "openai-whisper")
