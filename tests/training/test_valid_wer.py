"""Word error rate in validation, and stopping by it."""

from pathlib import Path
from typing import Any

import jiwer
import pytest
import torch

from espnet_plugin.checkpoint import read_json
from espnet_plugin.decode.options import Options
from espnet_plugin.decode.recognizer import Recognizer
from espnet_plugin.monitor.ranks import Ranks
from espnet_plugin.text import normalize
from espnet_plugin.training.curve import read_curve
from espnet_plugin.training.valid_wer import ValidWer, check, quota

LANGS = ["cs", "ms", "en", "cs", "ms"]
TEXTS = ["saya nak, pergi", "makan besok", "a long report", "lunch dengan kawan", "petang"]


class Reported:
    def __init__(self) -> None:
        self.stats: dict[str, Any] = {}


def test_rates_are_those_of_decoding(tiny_whisper: Path) -> None:
    from espnet_plugin.model import AsyncSwitchModel

    model = AsyncSwitchModel(tiny_whisper, autocast="none").train()
    waves = [0.1 * torch.randn(3000 + 700 * n, generator=torch.manual_seed(n)) for n in range(5)]
    lengths = torch.tensor([len(wave) for wave in waves])
    options = Options(on_loop="keep", max_tokens_per_second=12)
    recognizer = Recognizer(tiny_whisper, options)
    said = [recognizer.text(h) for h in recognizer(waves, LANGS)]
    texts = [torch.tensor(model.prompt.encode(t, n)) for t, n in zip(TEXTS, LANGS, strict=True)]
    # What is said is what one of the references is: not all is wrong.
    texts[1] = torch.tensor(model.prompt.encode(said[1], LANGS[1]))
    references = [TEXTS[0], said[1], *TEXTS[2:]]
    pad = torch.nn.utils.rnn.pad_sequence
    whole = {
        "speech": pad(waves, batch_first=True),
        "speech_lengths": lengths,
        "text": pad(texts, batch_first=True, padding_value=-1),
        "text_lengths": torch.tensor([len(t) for t in texts]),
        "lang": torch.tensor([[model.languages.index(name)] for name in LANGS]),
    }
    batches = [(["a", "b"], {k: v[:2] for k, v in whole.items()})]
    batches += [(["c", "d", "e"], {k: v[2:] for k, v in whole.items()})]

    def words(texts: list[str], rows: list[int]) -> list[str]:
        return [" ".join(normalize(texts[i], LANGS[i]).words) for i in rows]

    def expected(rows: list[int]) -> float:
        return 100 * float(jiwer.wer(words(references, rows), words(said, rows)))

    for utterances, rows in ((5, range(5)), (99, range(5)), (3, (0, 1, 2))):
        wer, reported = ValidWer(model, utterances, Ranks(False)), Reported()
        assert [ids for ids, _ in wer.watch(batches, 2)] == [["a", "b"], ["c", "d", "e"]]
        rates = wer.finish(reported)  # type: ignore[arg-type]
        assert rates["wer"] == pytest.approx(expected([*rows]), rel=0.02)  # sclite's alignment
        for name in ("cs", "ms", "en"):
            chosen = [row for row in rows if LANGS[row] == name]
            assert rates[f"wer_{name}"] == pytest.approx(expected(chosen), rel=0.02)
        assert {k: v[0].value for k, v in reported.stats.items()} == rates
        assert f"on {len(rows)} utterances" in wer.describe(rates)
    assert model.training, "as it was"
    assert list(ValidWer(model, 0, Ranks(False)).watch(batches, 2)) == batches


def test_ranks_share_the_utterances() -> None:
    for utterances in range(20):
        assert sum(quota(utterances, 3, rank) for rank in range(3)) == utterances


def test_a_criterion_that_is_not_measured() -> None:
    check(8, "paired", [("valid", "wer", "min"), ("valid", "wer_cs", "min")])
    check(0, "text", [("valid", "loss", "min")])
    with pytest.raises(ValueError, match="criterion 'valid wer' needs --valid_wer_utts"):
        check(0, "paired", [("valid", "wer", "min")])
    with pytest.raises(ValueError, match="is called 'valid wer min'"):
        check(5, "paired", [("train", "wer", "min")])
    with pytest.raises(ValueError, match="no speech to decode"):
        check(5, "text", [])


@pytest.mark.slow
@pytest.mark.parametrize("world", [1, 2])
def test_training_stops_when_the_wer_no_longer_falls(
    tiny_whisper: Path, tmp_path: Path, world: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from espnet_plugin.bin.asr_train import main
    from tests.fixtures.pairs import write_pairs
    from tests.test_distributed import CONF, run_ranks, train

    rates = iter([90.0, 80.0, 70.0, 75.0, 72.0, 60.0, 50.0])  # falls again after the patience
    true = ValidWer.finish

    def finish(self: ValidWer, reporter: Any) -> dict[str, float]:
        measured = true(self, reporter)
        assert measured["wer"] > 0 and self.total == 5
        reporter.stats["wer"] = [type(reporter.stats["wer"][0])(next(rates), 1.0)]
        return measured | {"wer": reporter.stats["wer"][0].value}

    monkeypatch.setattr(ValidWer, "finish", finish)
    write_pairs(tmp_path / "train", 23)
    write_pairs(tmp_path / "valid", 5, seed=1)
    (tmp_path / "conf.yaml").write_text(CONF.replace("BINS", "60000").replace("h: 2", "h: 6"))
    command = ["--config", str(tmp_path / "conf.yaml"), "--adaptation_stage", "adapt_align"]
    command += ["--init_dir", str(tiny_whisper), "--output_dir", str(tmp_path / "out")]
    command += ["--train_data", str(tmp_path / "train"), "--valid_data", str(tmp_path / "valid")]
    command += ["--valid_wer_utts", "5", "--patience", "1", "--ngpu", "0"]
    command += ["--early_stopping_criterion", "valid", "wer", "min"]
    command += ["--best_model_criterion", "valid,wer,min", "valid,loss,min"]
    main(command) if world == 1 else run_ranks(world, train, [command])
    curve = read_curve(tmp_path / "out/curve.csv")
    assert [row["valid_wer"] for row in curve] == [90, 80, 70, 75, 72]
    assert any(key.startswith("valid_wer_") for key in curve[0])
    record = read_json(tmp_path / "out/training.json")
    assert record["checkpoint"] == "2epoch.pth" and record["criterion"] == "valid wer min"
    assert record["kept_updates"] == 4 and record["valid_loss_kept"] == curve[2]["valid_loss"]
