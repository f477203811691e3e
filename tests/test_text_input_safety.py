"""Nothing of the user's is replaced or waited for in vain, and what is damaged is made again."""

from collections.abc import Callable
from pathlib import Path

import pytest

from espnet_plugin.text import executors
from espnet_plugin.text_input import prepare


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "lines.txt"
    path.write_text("saya nak pergi sekolah\nshe left early\n")
    return path


def make(text: Path, output: Path, model: Path, **options: str) -> None:
    prepare([str(text)], str(output), str(model), workers=1, plots=False, **options)


@pytest.mark.parametrize(
    ("output", "valid"), [("a", "a/valid"), ("b/all", "b"), ("c", "c/."), ("link/x", "d")]
)
def test_a_store_inside_the_other_is_refused(
    output: str, valid: str, text: Path, tmp_path: Path, tiny_whisper: Path
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "d")
    with pytest.raises(ValueError, match="lies in|is --output"):
        make(text, tmp_path / output, tiny_whisper, valid_output=str(tmp_path / valid))
    assert not (tmp_path / output.split("/")[0] / "manifest.json").exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_a_damaged_store_is_made_again_by_the_same_command(
    damage: Callable[[bytes], bytes],
    tmp_path: Path,
    text: Path,
    tiny_whisper: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    make(text, tmp_path / "store", tiny_whisper)
    shard = tmp_path / "store/shard-00000.bin"
    whole = shard.read_bytes()
    shard.write_bytes(damage(whole))
    make(text, tmp_path / "store", tiny_whisper)
    assert shard.read_bytes() == whole
    assert "shard-00000.bin" in caplog.text and "altered" in caplog.text


def test_no_workers_are_asked_for_in_vain(
    text: Path, tmp_path: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executors, "DaskExecutor", lambda *_: pytest.fail("a cluster was started"))
    for inputs, lang, message in (
        (tmp_path / "none.txt", None, "none.txt: no such file"),
        (text, "es", "--lang: language 'es'"),
    ):
        with pytest.raises((FileNotFoundError, ValueError), match=message):
            prepare(
                [str(inputs)], str(tmp_path / "s"), str(tiny_whisper), lang=lang, executor="dask"
            )


def test_a_finished_store_asks_slurm_for_nothing(
    text: Path, tmp_path: Path, tiny_whisper: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("distributed")
    cluster = tmp_path / "slurm.yaml"
    cluster.write_text("jobs: 2\n")
    monkeypatch.setattr(
        executors.SlurmCluster, "start", lambda self: pytest.fail("Slurm was asked for workers")
    )
    make(text, tmp_path / "store", tiny_whisper)
    again = [str(text)], str(tmp_path / "store"), str(tiny_whisper)
    prepare(*again, executor="dask", cluster=str(cluster), plots=False)
    text.write_text("teks lain untuk esok\n")
    with pytest.raises(pytest.fail.Exception, match="Slurm was asked"):
        prepare(*again, executor="dask", cluster=str(cluster), plots=False)
