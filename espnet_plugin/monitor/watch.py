"""Watches ESPnet's trainer: what goes into the model, what comes out, what an epoch came to.

Nothing of ESPnet's loop is rewritten. A forward hook sees each batch and its loss; what wraps the
iterator is asked for the next batch when a step is over. An update is left out by making its loss
NaN: ESPnet takes no step where the gradient's norm is not finite, whatever is accumulated and on
all ranks, and neither the optimiser nor the schedule moves.
"""

import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from espnet_plugin.distributed import from_first
from espnet_plugin.monitor.batches import WatchedBatches, evened, facts, name, together
from espnet_plugin.monitor.events import Events, read_events
from espnet_plugin.monitor.faults import FILE as BAD
from espnet_plugin.monitor.faults import Fault, Ledger, too_many
from espnet_plugin.monitor.kept import read_states, write_state
from espnet_plugin.monitor.meter import Meter, Work
from espnet_plugin.monitor.options import TrainingError, WatchOptions
from espnet_plugin.monitor.ranks import Ranks
from espnet_plugin.monitor.signatures import Finding, Row, detect
from espnet_plugin.monitor.spikes import Level
from espnet_plugin.monitor.validating import check_mean, judged
from espnet_plugin.monitor.work import Estimate
from espnet_plugin.training.accumulating import TokenShares


class Watch:
    """Watches one run.

    Attributes:
        events: Where things are said.
        meter: Speed.
        ledger: Bad utterances.
        columns: Of the last epoch, for the curve.
        stage: The adaptation stage.
        after_text: Whether it starts from a stage 1 that converged.
        shares: Weights the losses of an update's batches, where it has several.
    """

    shares: TokenShares | None = None

    def __init__(
        self,
        output_dir: Path,
        label: str,
        options: WatchOptions,
        ranks: Ranks,
        source: str = "",
        estimate: Estimate | None = None,
    ) -> None:
        """Prepare.

        Args:
            output_dir: Of the run.
            label: Its name.
            options: What to do about what is found.
            ranks: The processes.
            source: The training data, for messages: a data directory or a text store.
            estimate: Counts the operations of a batch, for MFU.
        """
        self.options, self.ranks, self.source, self.estimate = options, ranks, source, estimate
        self.output_dir, self.main = output_dir, ranks.rank == 0
        self.events = Events(output_dir, label, self.main)
        self.meter = Meter(ranks.device, ranks.size, options.peak_tflops)
        self.level = Level(options.spike_window * ranks.size, options.spike_factor)
        self.ledger = Ledger()
        self.known = {event["event"] for event in read_events(self.events.path)}
        self.epoch = self.batches = self.skipped = self.in_row = 0
        self.pending: list[Sequence[str]] = []  # ids of the batches that are being accumulated
        self.left_out = False  # whether their update is, because of a loss
        self.work: Work | None = None  # of the step that is going on
        self.columns: dict[str, float] = {}
        self.stage, self.after_text = "", False
        self.valid: Any = None
        self.validated = (0, 0)

    @property
    def update(self) -> int:
        """The number of the update that is going on, from 1."""
        return self.first_update + max(self.batches - 1, 0) // self.trainer.accum_grad + 1

    @contextmanager
    def training(
        self,
        model: torch.nn.Module,
        batches: Any,
        reporter: Any,
        trainer: Any,
        first_update: int = 0,
        done: int = 0,
    ) -> Iterator[Iterable[Any]]:
        """Watch an epoch of training; the value is what to give ESPnet in place of `batches`.

        Args:
            model: As ESPnet runs it (wrapped by DDP).
            batches: What is left of the epoch's.
            reporter: ESPnet's, of this epoch.
            trainer: ESPnet's trainer options.
            first_update: Updates of all epochs before.
            done: Batches of this epoch that were done before a run was resumed.

        Raises:
            TrainingError: If the run should not go on.
        """
        resumed = self.epoch == 0
        self.epoch, self.first_update = reporter.get_epoch(), first_update
        self.reporter, self.trainer = reporter, trainer
        self.length = done + len(batches) if hasattr(batches, "__len__") else None
        self.interval = trainer.log_interval or max((self.length or 2000) // 20, 10)
        self.batches, self.skipped = done, 0
        self.events.begin_epoch(self.epoch)
        if resumed:
            self._restore()
        self.before = self.ledger.seen, self.ledger.bad
        self.meter.begin_epoch()
        if self.estimate is not None:
            self.estimate.refresh()
        hooks = [model.register_forward_hook(self._after_forward, with_kwargs=True)]
        if self.shares is not None:
            hooks.append(model.register_forward_hook(self.shares.weigh))
        try:
            yield WatchedBatches(self, batches)
        finally:
            for hook in hooks:
                hook.remove()
        self.end_step()  # ESPnet asks for no further batch where another rank has none left
        self._end_epoch()

    def drawn(self) -> None:
        """Note that a batch is given to ESPnet."""
        self.batches += 1

    def count(self, good: int, bad: int) -> None:
        """Count utterances that were read for training, and those that could not be."""
        self.ledger.seen += good + bad
        self.ledger.bad += bad
        self.ledger.check_readable(good, bad, self.options.max_bad_share)

    def note(self, part: str, faults: Sequence[Fault]) -> None:
        """Take note of utterances that this rank could not read; rank 0 says them at once."""
        if self.main:
            self._enter((part, fault) for fault in faults)
        else:
            self.ledger.add(part, faults)

    def _enter(self, found: Iterable[tuple[str, Fault]]) -> None:
        for part, fault in self.ledger.enter(self.epoch, found):
            text = f"utterance {fault.utt} ({part}) is left out: {fault.reason}"
            about: dict[str, Any] = {"utterance": fault.utt, "set": part, "reason": fault.reason}
            if self.main:
                self.events.record("bad_utterance", f"epoch {self.epoch}: {text}", **about)

    def _exchange(self) -> None:
        """Let all ranks know all bad utterances; write their list."""
        for found in self.ranks.gather_objects(self.ledger.take_news()):
            self._enter(found)
        if self.main and self.ledger.reasons:
            self.ledger.write(self.output_dir)

    def _check_share(self, seen: int, bad: int) -> None:
        """Judge the bad utterances of all ranks."""
        allowed = self.options.max_bad_share
        if too_many(allowed, seen, bad):
            self._exchange()
            fault = self.ledger.fault(allowed, seen, bad)
            self.events.record("too_many_bad_utterances", str(fault), True, seen=seen, bad=bad)
            raise fault

    def _after_forward(self, model: Any, args: Any, batch: dict[str, Any], output: Any) -> Any:
        """Judge a batch's loss; the hook's result replaces the model's where an update is skipped.

        All ranks see all ranks' losses, so that all decide alike.
        """
        loss, stats, weight = output
        ids, tokens = batch["utt_id"], float(weight.sum())
        self.meter.register(self.reporter)
        value = float(loss.detach().float().mean())
        mine: list[float] = [value, self.ledger.seen, self.ledger.bad, len(ids), tokens]
        mine += self.estimate(batch, int(tokens)) if self.estimate else (0.0, 0.0)
        losses, seen, bad, *work = zip(*self.ranks.gather(mine), strict=True)
        self.work = Work(*(sum(column) for column in work))
        self.pending.append(ids)
        self._check_share(int(sum(seen)), int(sum(bad)))
        kind, limit = self.level.judge(losses)
        if kind is None:
            return None
        culprit = not math.isfinite(value) or value > limit
        held = together(self.ranks.gather_objects(facts(ids) if culprit else {}))
        worst = next((x for x in losses if not math.isfinite(x)), max(losses))
        usual = self.level.median()
        level = f", usually {usual:.3f}" if math.isfinite(usual) else ""
        text = f"the loss is {worst:.3f}{level}"
        if not self._act(kind, text, held, loss=worst, level=usual, limit=limit):
            return None
        self.left_out = True
        return loss * math.nan, stats, weight

    def _act(self, kind: str, text: str, held: dict[str, list[Any]], **figures: float) -> bool:
        """Record a bad loss or gradient; return whether its update is to be left out.

        Raises:
            TrainingError: If the options say so.
        """
        action = self.options.on_spike if kind == "spike" else self.options.on_nonfinite
        does = {"warn": "trained on", "skip": "the update is left out", "stop": "the run stops"}
        option = "--on_spike" if kind == "spike" else "--on_nonfinite"
        text = (
            f"epoch {self.epoch}, update {self.update}: {text}; {name(held, self.source)}; "
            f"{does[action]} ({option} {action})"
        )
        # JSON has no NaN
        plain = {key: x if math.isfinite(x) else str(x) for key, x in figures.items()}
        stop = action == "stop"
        self.events.record(kind, text, stop, update=self.update, action=action, **plain, **held)
        if stop:
            raise TrainingError(text)
        return action == "skip"

    def end_step(self) -> None:
        """Note that ESPnet is done with a batch; after an update, judge its gradient."""
        if self.work is None:
            return
        self.meter.done(self.work)
        self.work = None
        if self.batches % self.trainer.accum_grad == 0:
            self._end_update()
        if self.batches % self.interval == 0:
            left = None
            if self.length is not None:
                epochs = self.trainer.max_epoch - self.epoch + 1
                left = epochs * self.length - self.batches, epochs
            logging.info(
                "%s, epoch %d, update %d: %s",
                self.events.label,
                self.epoch,
                self.update,
                self.meter.line(left),
            )
            if self.estimate is not None:
                self.estimate.refresh()  # a gradual schedule may have let more move

    def _end_update(self) -> None:
        norms = self.reporter.stats.get("grad_norm", [])
        # ESPnet reports a norm where it took a step, and fills the others with NaN.
        stepped = len(norms) == self.reporter.count and math.isfinite(float(norms[-1].value))
        pending, self.pending = self.pending, []
        left_out, self.left_out = self.left_out, False
        if stepped:
            self.in_row = 0
            return
        self.skipped += 1
        self.in_row += 1
        if not left_out:
            parts = self.ranks.gather_objects(together([facts(ids) for ids in pending]))
            self._act("nonfinite_gradient", "the gradient's norm is not finite", together(parts))
        if self.in_row > self.options.max_skipped:
            text = (
                f"epoch {self.epoch}, update {self.update}: {self.in_row} updates in a row were "
                f"left out, allowed are {self.options.max_skipped} (--max_skipped): look at the "
                f"events before in {self.events.path}, and lower the learning rate"
            )
            self.events.record("too_many_skipped", text, True, update=self.update)
            raise TrainingError(text)

    def _end_epoch(self) -> None:
        self._exchange()
        seen_before, bad_before = self.before
        counts = [self.ledger.seen - seen_before, self.ledger.bad - bad_before]
        every = self.ranks.gather([*counts, self.ledger.seen, self.ledger.bad])
        seen, bad, all_seen, all_bad = (int(sum(column)) for column in zip(*every, strict=True))
        spikes = self.events.counts["spike"]
        if bad or spikes or self.skipped:
            text = f"epoch {self.epoch}: {self.skipped} updates left out, {spikes} loss spikes"
            if bad:
                share = f"{100 * bad / seen:.2f} %"
                text += f", {bad} of {seen} utterances ({share}) could not be used ({BAD})"
            self.events.record(
                "summary", text, skipped=self.skipped, spikes=spikes, seen=seen, bad=bad
            )
        self.columns = {
            "lr": self._rate(),
            "skipped": self.skipped,
            "spikes": spikes,
            "bad": bad,
        } | {key: round(value, 4) for key, value in self.meter.rates(self.meter.epoch).items()}
        self._check_share(all_seen, all_bad)
        self._keep(f"{self.epoch + 1}:0", 0, 0)

    def _rate(self) -> float:
        """Return the largest learning rate of the epoch; NaN where no update was made."""
        rates = [
            float(one.value)
            for key, values in self.reporter.stats.items()
            if key.startswith("optim") and "_lr" in key
            for one in values
            if math.isfinite(one.value)
        ]
        return max(rates, default=math.nan)

    def save(self) -> None:
        """Keep the state at this place of the epoch, for a resumed run; all ranks call it."""
        self.end_step()
        self._exchange()
        self._keep(f"{self.epoch}:{self.batches}", self.skipped, self.events.counts["spike"])

    def _keep(self, place: str, skipped: int, spikes: int) -> None:
        counts = zip(*self.ranks.gather([self.ledger.seen, self.ledger.bad]), strict=True)
        seen, bad = (int(sum(column)) for column in counts)
        if not self.main:
            return
        state = {
            "losses": list(self.level.losses),
            "seen": seen,
            "bad": bad,
            "in_row": self.in_row,
            "skipped": skipped,
            "spikes": spikes,
        }
        write_state(self.output_dir, place, state, self.events.record)

    def _restore(self) -> None:
        """Go on from what was kept at this place, if anything: as rank 0 reads it, on all ranks."""
        state = None
        if self.main:
            kept = read_states(self.output_dir, self.events.record)
            state = kept.get(f"{self.epoch}:{self.batches}")
        if self.main and state is not None:
            self.ledger.read(self.output_dir)
        state, self.ledger.reasons = from_first((state, self.ledger.reasons))
        if state is None:
            return
        self.level.losses.extend(state["losses"])
        self.in_row, self.skipped = state["in_row"], state["skipped"]
        self.events.counts["spike"] = state["spikes"]
        if self.main:  # what ranks have counted is added up
            self.ledger.seen, self.ledger.bad = state["seen"], state["bad"]

    def validating(self, batches: Any, epoch: int, reporter: Any) -> Iterator[tuple[Any, Any]]:
        """Yield the batches of a validation, without what could not be read.

        Several ranks must have as many batches each, so there an empty one is filled, see
        `evened`: the utterances that are lent count twice.
        """
        self.events.epoch, self.valid = epoch, reporter
        self.validated = 0, 0
        read = self._read(batches)
        if self.ranks.size > 1:
            given = evened(read, self.ranks)
        else:
            given = (pair for pair in read if len(pair[0]))
        yield from judged(self, given, reporter)

    def _read(self, batches: Any) -> Iterator[tuple[Any, Any]]:
        for ids, batch in batches:
            faults = getattr(ids, "faults", ())
            seen, bad = self.validated
            self.validated = seen + len(ids) + len(faults), bad + len(faults)
            self.note("valid", faults)
            self.ledger.check_readable(len(ids), len(faults), self.options.max_bad_share)
            yield ids, batch

    def after_validation(self) -> None:
        """Judge what could not be validated on; all ranks call it.

        Raises:
            TrainingError: If there is too much of it, or the loss is not finite.
        """
        every = self.ranks.gather(self.validated)
        self._exchange()
        self._check_share(*(int(sum(column)) for column in zip(*every, strict=True)))
        check_mean(self, self.valid)

    def judge(self, rows: Sequence[Row]) -> None:
        """Look for failure signatures in the curve."""
        self.say(detect(rows, self.stage, self.after_text))

    def say(self, findings: Iterable[Finding]) -> None:
        """Say failure signatures, each once in a run."""
        for finding in findings:
            if self.main and finding.name not in self.known:
                self.known.add(finding.name)
                text = f"{finding.name}: {finding.found}. What to try: {finding.advice}."
                self.events.record(finding.name, text, found=finding.found, advice=finding.advice)
