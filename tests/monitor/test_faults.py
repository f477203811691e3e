"""Utterances that cannot be read: skipped, named, counted."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from espnet_plugin.monitor import faults
from espnet_plugin.monitor.batches import filled
from espnet_plugin.monitor.options import TrainingError
from tests.fixtures.pairs import write_pairs

BAD = {
    "spk-000": "sampled at 8000 Hz, needed are 16000 Hz",
    "spk-001": "no such file",
    "spk-003": r"truncated: \d+ of \d+ samples",
    "spk-005": "NaN or Inf",
    "spk-007": "0.00 s of audio",
    "spk-009": "not in all of speech, text",
    "spk-011": "Format not recognised",
    "spk-012": r"spk-012\.wav is empty: 0 bytes",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> faults.TolerantDataset:
    from espnet2.train.dataset import ESPnetDataset

    root = write_pairs(tmp_path_factory.mktemp("set") / "train", 14)
    spoil(root)

    def preprocess(uid: str, data: dict[str, Any]) -> dict[str, Any]:
        if not len(data["speech"]):
            raise ValueError(f"utterance {uid}: 0.00 s of audio")
        if not np.isfinite(data["speech"]).all():
            raise ValueError(f"utterance {uid}: the audio holds NaN or Inf")
        return {"speech": data["speech"], "text": np.arange(len(data["text"]))}

    lengths = faults.read_lengths(root / "utt2num_samples") | {"spk-007": 0}
    files = [(str(root / "wav.scp"), "speech", "sound"), (str(root / "text"), "text", "text")]
    return faults.TolerantDataset(ESPnetDataset(files, faults.LengthCheck(preprocess, lengths)))


def spoil(root: Path) -> None:
    first, _ = soundfile.read(root / "spk-000.wav")
    soundfile.write(root / "spk-000.wav", first, 8_000, "PCM_16")  # the others are not at fault
    (root / "spk-001.wav").unlink()
    cut = root / "spk-003.wav"
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    soundfile.write(root / "spk-005.wav", np.full(9000, np.nan), 16_000, "FLOAT")
    lines = (root / "utt2num_samples").read_text().replace("spk-005 ", "spk-005 9000\nx ")
    (root / "utt2num_samples").write_text(lines)
    soundfile.write(root / "spk-007.wav", np.zeros(0), 16_000, "PCM_16")
    text = (root / "text").read_text().splitlines()
    (root / "text").write_text("\n".join(x for x in text if not x.startswith("spk-009")) + "\n")
    (root / "spk-012.wav").write_bytes(b"")
    (root / "spk-011.wav").write_bytes(b"RIFF nothing at all, but long enough for a header")


def collate() -> faults.TolerantCollate:
    from espnet2.train.collate_fn import CommonCollateFn

    return faults.TolerantCollate(CommonCollateFn(float_pad_value=0.0, int_pad_value=-1))


@pytest.mark.parametrize("workers", [0, 1])
def test_bad_utterances_are_named_and_the_rest_is_trained(
    dataset: faults.TolerantDataset, workers: int
) -> None:
    utts = [f"spk-{n:03d}" for n in range(14)]
    loader: Any = torch.utils.data.DataLoader(
        dataset,
        batch_sampler=[utts[:7], utts[7:12], ["spk-001", "spk-003"], utts[12:]],
        collate_fn=collate(),
        num_workers=workers,
    )
    batches = list(loader)
    found = {fault.utt: fault.reason for ids, _ in batches for fault in ids.faults}
    assert set(found) == set(BAD)
    for utt, reason in BAD.items():
        assert re.search(reason, found[utt]), found[utt]
        assert not found[utt].startswith("utterance")
    assert [utt for ids, _ in batches for utt in ids] == [u for u in utts if u not in BAD]
    assert [len(batch.get("speech", ())) for _, batch in batches] == [3, 2, 0, 1]


def test_a_mistake_in_the_program_is_not_taken_for_a_bad_utterance() -> None:
    class Broken(dict[str, Any]):
        def __getitem__(self, uid: str) -> Any:
            raise TypeError("a mistake")

    with pytest.raises(TypeError, match="a mistake"):
        faults.TolerantDataset(Broken())["a"]


def test_an_empty_batch_is_filled_by_its_neighbour() -> None:
    def batch(*utts: str) -> tuple[faults.BatchIds, dict[str, torch.Tensor]]:
        return faults.BatchIds(utts), {"text": torch.arange(len(utts))} if utts else {}

    given = [batch(), batch(), batch("a", "b"), batch("c"), batch(), batch("d", "e"), batch()]
    given_out = [list(ids) for ids, _ in filled(given)]
    assert given_out == [["a"], ["a"], ["a", "b"], ["c"], ["d"], ["d", "e"], ["d"]]
    assert list(filled([batch(), batch()])) == []


def test_one_percent_is_allowed_and_more_is_not() -> None:
    assert not faults.too_many(0.01, seen=1000, bad=10)
    assert faults.too_many(0.01, seen=1000, bad=11)
    assert not faults.too_many(0.01, seen=10, bad=2), "as of the first 200"
    assert faults.too_many(0.01, seen=10, bad=3)
    assert faults.too_many(0.0, seen=10, bad=1)
    assert not faults.too_many(1.0, seen=1000, bad=1000)


def test_the_error_and_the_list_name_utterances_and_reasons(tmp_path: Path) -> None:
    ledger = faults.Ledger()
    bad = [("train", faults.Fault(f"utt{n}", "truncated")) for n in range(9)]
    assert len(ledger.enter(2, bad)) == 9
    assert ledger.enter(3, bad[:2]) == [], "each is said once"
    message = str(ledger.fault(0.01, 500, 9))
    assert "9 of 500 utterances (1.80 %)" in message and "--max_bad_share 0.01" in message
    assert "utt0 (truncated)" in message and "and 4 more" in message
    ledger.write(tmp_path)
    rows = (tmp_path / "bad_utterances.tsv").read_text().splitlines()
    assert rows[:2] == ["utterance\tset\tepoch\treason", "utt0\ttrain\t2\ttruncated"]
    again = faults.Ledger()
    again.read(tmp_path)
    assert again.reasons == ledger.reasons
    with pytest.raises(TrainingError, match="1.80 %"):
        raise ledger.fault(0.01, 500, 9)
