"""Watching ESPnet's own training loop, on a model of a few weights."""

import json
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from espnet_plugin.checkpoint import read_json, write_json
from espnet_plugin.iterators import BatchLines
from espnet_plugin.monitor import meter
from espnet_plugin.monitor.console import drop_shown
from espnet_plugin.monitor.events import Events, read_events
from espnet_plugin.monitor.kept import STATE
from espnet_plugin.monitor.options import TrainingError
from espnet_plugin.monitor.signatures import Finding
from espnet_plugin.training.saving import LEDGER
from tests.monitor.runs import Batch, Run, batch, faulty, of_validation


def same(one: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


BATCHES = [batch(n) for n in range(30)]


@pytest.mark.parametrize(
    ("bad", "kind"),
    [
        (batch(99, y=math.nan), "nonfinite_loss"),
        (batch(99, factor=math.nan), "nonfinite_gradient"),
        (batch(99, y=500.0), "spike"),
    ],
)
def test_a_skipped_batch_is_named_and_moves_nothing(
    tmp_path: Path, bad: Batch, kind: str, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    caplog.set_level(logging.INFO)
    run = Run(tmp_path / "with", on_spike="skip")
    with_it = run.train([*BATCHES[:25], bad, *BATCHES[25:]])
    without = Run(tmp_path / "without").train(BATCHES)
    assert same(with_it, without), "weights, moments and schedule are those of a run without it"
    (event, summary) = run.found()
    assert (event["event"], event["epoch"], event["update"]) == (kind, 1, 26)
    assert event["utterances"] == ["utt99-0", "utt99-1", "utt99-2", "utt99-3"]
    assert event["action"] == "skip" and summary["event"] == "summary" and summary["skipped"] == 1
    said = capsys.readouterr().out
    for words in (said, caplog.text):
        assert "run: epoch 1, update 26" in words and "utt99-0, utt99-1" in words
        assert "of dump/train" in words and "the update is left out" in words
    assert run.watch.columns["skipped"] == 1 and run.watch.columns["lr"] > 0


def test_under_accumulation_the_whole_update_is_left_out_and_the_batch_named(
    tmp_path: Path,
) -> None:
    run = Run(tmp_path / "with")
    bad = batch(99, y=math.nan)
    with_it = run.train([*BATCHES[:20], BATCHES[20], bad, *BATCHES[20:]], accum=2)
    assert same(with_it, Run(tmp_path / "without").train(BATCHES, accum=2))
    event = run.found()[0]
    assert event["update"] == 11 and event["utterances"][0] == "utt99-0"
    assert len(event["utterances"]) == 4, "its neighbour is not to blame"


def test_a_spike_is_trained_on_with_a_warning_by_default(tmp_path: Path) -> None:
    run, bad = Run(tmp_path / "with"), batch(99, y=500.0)
    with_it = run.train([*BATCHES, bad])
    assert [event["event"] for event in run.found()] == ["spike", "summary"]
    assert run.found()[0]["loss"] > run.found()[0]["limit"] > run.found()[0]["level"]
    assert not same(with_it, Run(tmp_path / "without").train(BATCHES))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_named_before_there_is_a_level(
    tmp_path: Path, value: float
) -> None:
    run = Run(tmp_path)
    with_it = run.train([batch(99, y=value), *BATCHES])
    assert run.found()[0]["utterances"][0] == "utt99-0"
    assert same(with_it, Run(tmp_path / "without").train(BATCHES))


def test_lines_of_text_are_named_by_number(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    run.train([*BATCHES, batch(99, y=math.nan, ids=BatchLines(np.array([7, 70, 5, 12]), None))])
    assert run.found()[0]["lines"] == [7, 70, 5, 12]
    assert "lines 7, 70, 5, 12 of dump/train" in run.found()[0]["text"]


@pytest.mark.parametrize(
    ("bad", "option", "message"),
    [
        (batch(99, y=math.nan), {"on_nonfinite": "stop"}, "the loss is nan.*utt99-0.*stops"),
        (batch(99, factor=math.inf), {"on_nonfinite": "stop"}, "norm is not finite.*utt99-0"),
        (batch(99, y=500.0), {"on_spike": "stop"}, r"usually 0\..*utt99-0.*on_spike stop"),
    ],
)
def test_a_run_stops_where_the_options_say_so(
    tmp_path: Path, bad: Batch, option: dict[str, Any], message: str
) -> None:
    run = Run(tmp_path / "out", **option)
    expected = Run(tmp_path / "short").train(BATCHES)
    with pytest.raises(TrainingError, match=message):
        run.train([*BATCHES, bad, *BATCHES])
    assert same(run.state(), expected)


def test_too_many_skipped_updates_in_a_row_end_the_run(tmp_path: Path) -> None:
    bad = [batch(90 + n, y=math.nan) for n in range(4)]
    run = Run(tmp_path / "apart")
    run.train([*BATCHES[:5], *bad[:3], BATCHES[5], *bad[:3]])  # three in a row, twice: allowed
    with pytest.raises(TrainingError, match=r"4 updates in a row .* allowed are 3 \(--max_skipp"):
        Run(tmp_path / "out").train([*BATCHES[:5], *bad, *BATCHES[5:]])


@pytest.mark.filterwarnings("ignore:The stats of the previous epoch")
def test_a_resumed_run_goes_on_with_the_level_and_the_counts(tmp_path: Path) -> None:
    bad = batch(99, y=500.0)
    whole = Run(tmp_path / "whole", on_spike="skip")
    whole.train(BATCHES)
    expected = whole.train([bad, *BATCHES], epoch=2)
    first = Run(tmp_path / "parts", on_spike="skip")
    first.train(BATCHES)
    second = Run(tmp_path / "parts", on_spike="skip")
    second.model.load_state_dict(first.model.state_dict())
    second.optimizer.load_state_dict(first.optimizer.state_dict())
    second.schedule.load_state_dict(first.schedule.state_dict())
    assert same(second.train([bad, *BATCHES], epoch=2), expected)
    assert second.watch.ledger.seen == whole.watch.ledger.seen


def test_the_state_that_a_checkpoint_of_long_ago_needs_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    for epoch in range(1, 9):
        run.train(BATCHES[:2], epoch=epoch)
        if epoch == 2:
            write_json(tmp_path / "out" / LEDGER, [{"position": [3, 0]}, {"position": [2, 0]}])
    kept = read_json(tmp_path / "out" / STATE)
    assert list(kept) == ["2:0", "3:0", "6:0", "7:0", "8:0", "9:0"]


def test_bad_utterances_are_counted_named_and_summed_up(tmp_path: Path) -> None:
    run = Run(tmp_path / "out", max_bad_share=0.1)
    run.train([*BATCHES[:10], faulty(50, 3, 1), faulty(51, 0, 4), *BATCHES[10:]])
    kinds = [event["event"] for event in run.found()]
    assert kinds == ["bad_utterance"] * 5 + ["summary"]
    assert run.found()[0]["utterance"] == "bad50-0"
    assert run.found()[0]["reason"] == "truncated: 5 of 9 samples"
    assert "5 of 128 utterances (3.91 %) could not be used" in run.found()[-1]["text"]
    assert len((tmp_path / "out" / "bad_utterances.tsv").read_text().splitlines()) == 6
    assert run.watch.columns["bad"] == 5


def test_too_many_bad_utterances_end_the_run_and_are_listed(tmp_path: Path) -> None:
    run = Run(tmp_path / "out")
    many = [faulty(n, 3, 1) for n in range(3)]  # the third of the first 200 is one too many
    with pytest.raises(TrainingError, match=r"3 of 52 utterances .* bad0-0 \(truncated"):
        run.train([*BATCHES[:10], *many, *BATCHES])
    assert "bad2-0\ttrain\t1" in (tmp_path / "out" / "bad_utterances.tsv").read_text()


def test_validation_leaves_out_what_cannot_be_read(tmp_path: Path) -> None:
    watch = Run(tmp_path / "out").watch
    given = [faulty(1, 4, 0), faulty(2, 0, 2), faulty(3, 4, 0)]
    readable = watch.validating(given, 3, of_validation(3))
    assert [ids[0] for ids, _ in readable] == ["utt1-0", "utt3-0"]
    watch.after_validation()
    assert watch.ledger.reasons["bad2-0"][0] == "valid"
    list(watch.validating([faulty(4, 1, 3)], 3, of_validation(3)))
    with pytest.raises(TrainingError, match="3 of 4 utterances"):
        watch.after_validation()


def test_speed_is_in_espnets_log_and_in_a_line_with_the_time_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    run = Run(tmp_path / "out")
    run.train(BATCHES)
    assert "1epoch:train:11-20batch: " in caplog.text and "utt_per_s=" in caplog.text
    line = next(r.getMessage() for r in caplog.records if "utterances/s" in r.getMessage())
    assert line.startswith("run, epoch 1, update 10: ")
    assert "tokens/s" in line and "peak memory" in line and line.endswith("left")
    columns = run.watch.columns
    assert columns["tokens_per_s"] == pytest.approx(columns["utt_per_s"], rel=1e-6)
    assert 0.05 < columns["peak_gb"] < 100 and "mfu" not in columns


def test_the_time_left_is_of_steps_and_of_what_is_between_epochs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 0.0
    monkeypatch.setattr(meter.time, "perf_counter", lambda: now)
    found = meter.Meter("cpu", 1)
    now = 300.0  # validation before the first step
    found.begin_epoch()
    for _ in range(4):
        found.ask()
        now += 2
        found.done(meter.Work())
    assert found.left(100, 1) == 100 * 2 + 300
    now += 100.0
    found.begin_epoch()
    assert found.left(100, 3) == 100 * 2 + 3 * 200


def test_a_signature_is_said_once_in_a_run(tmp_path: Path) -> None:
    finding = Finding("stuck", "the loss has not moved", "more")
    for _ in range(2):  # the second is a resumed run
        watch = Run(tmp_path / "out").watch
        watch.say([finding])
        watch.say([finding])
    (event,) = read_events(tmp_path / "out" / "events.jsonl")
    assert event["text"] == "run: stuck: the loss has not moved. What to try: more."


def test_what_is_on_stdout_is_logged_to_files_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    to_file = logging.FileHandler(tmp_path / "log")
    monkeypatch.setattr(logging.root, "handlers", [logging.StreamHandler(), to_file])
    monkeypatch.setattr(logging.root, "level", logging.INFO)
    drop_shown()
    Events(tmp_path, "run").record("spike", "high")
    Events(tmp_path, "run").record("spike", "stopped", raised=True)
    to_file.close()
    out, err = capsys.readouterr()
    assert (out, err) == ("run: high\n", "")
    assert (tmp_path / "log").read_text() == "run: high\nrun: stopped\n"


def test_an_event_cut_off_by_a_kill_spoils_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = Events(tmp_path, "run")
    for number in range(12):
        events.record("spike", f"number {number}", update=number)
    said = capsys.readouterr().out
    assert "number 9" in said and "number 10" not in said and "events.jsonl" in said
    whole = (tmp_path / "events.jsonl").read_bytes()
    (tmp_path / "events.jsonl").write_bytes(whole[:-7])
    assert [event["update"] for event in read_events(tmp_path / "events.jsonl")] == [*range(11)]
    events.record("stuck", "later")
    lines = (tmp_path / "events.jsonl").read_text().splitlines()
    assert len(lines) == 12 and json.loads(lines[-1])["event"] == "stuck"
    assert [e["event"] for e in read_events(tmp_path / "events.jsonl")][-1] == "stuck"
