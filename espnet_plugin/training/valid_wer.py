"""Word error rate on a part of the validation set, by greedy decoding at each epoch's end.

The loss may fall while the text gets worse, and the other way round. So `--valid_wer_utts N`
decodes N utterances, the same in each epoch, and reports `wer`, `wer_cs`, ... in percent beside the
losses: in the curve, in ESPnet's log and checkpoint, and for `early_stopping_criterion` and
`best_model_criterion` (`valid wer min`). Both texts are normalised as for scoring. It is no figure
for a paper: recipe stages 12 and 13 make those, on whole sets and by the settings of decoding.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from espnet2.train.reporter import SubReporter, WeightedAverage

from espnet_plugin.monitor.ranks import Ranks

Batch = tuple[Any, dict[str, Any]]
TOKENS_PER_SECOND = 12.0  # where decoding forces an end, as in recipe stage 12


def quota(utterances: int, ranks: int, rank: int) -> int:
    """Return how many of `utterances` a rank decodes."""
    return utterances // ranks + (rank < utterances % ranks)


class ValidWer:
    """Decodes while batches of validation pass, and counts errors by language."""

    def __init__(self, model: Any, utterances: int, ranks: Ranks) -> None:
        """Prepare.

        Args:
            model: An `AsyncSwitchModel`, not wrapped for DDP.
            utterances: How many to decode on all ranks together; 0: none.
            ranks: The processes of the run.
        """
        self.model, self.ranks = model, ranks
        self.wanted = quota(utterances, ranks.size, ranks.rank)
        self.on = utterances > 0
        self.languages = tuple(model.languages) if self.on else ()
        self._rules: Any = None
        self._clear()

    def _clear(self) -> None:
        self.errors = [0.0] * len(self.languages)
        self.words = [0.0] * len(self.languages)
        self.utterances = 0

    def watch(self, batches: Iterable[Batch], count: int) -> Iterator[Batch]:
        """Yield the batches of a validation, and decode some utterances of each.

        Args:
            batches: This rank's.
            count: How many they are. The utterances are spread evenly over them, and so over all
                lengths.
        """
        self._clear()
        for number, (ids, batch) in enumerate(batches, 1):
            due = -(-self.wanted * number // count) if self.on else 0
            if (some := min(due, self.wanted) - self.utterances) > 0:
                self._decode({k: v[:some] for k, v in batch.items() if torch.is_tensor(v)})
            yield ids, batch

    @torch.no_grad()
    def _decode(self, batch: dict[str, torch.Tensor]) -> None:
        from espnet_plugin.decode.rules import TokenRules, text_limit
        from espnet_plugin.decode.search import greedy
        from espnet_plugin.features import SAMPLE_RATE
        from espnet_plugin.score.alignment import align
        from espnet_plugin.text import normalize

        model = self.model
        prompt, device = model.prompt, next(model.parameters()).device
        if self._rules is None:
            self._rules = TokenRules.of(prompt, model.vocab_size, device=device)
        speech, lengths = batch["speech"].to(device), batch["speech_lengths"].to(device)
        codes = batch["lang"].flatten().tolist()
        names = [self.languages[code] for code in codes]
        prompts = torch.tensor([prompt.prompt(name) for name in names], device=device)
        limits = [
            text_limit(samples / SAMPLE_RATE, prompts.shape[1], TOKENS_PER_SECOND)
            for samples in lengths.tolist()
        ]
        training = model.training
        model.eval()
        with model._autocast(device):
            memory, positions = model.encode(speech[:, : int(lengths.max())], lengths)
            found = greedy(
                model.whisper,
                memory,
                positions,
                prompts,
                self._rules,
                torch.tensor(limits, device=device),
            )
        model.train(training)
        texts, sizes = batch["text"].tolist(), batch["text_lengths"].tolist()
        for code, name, text, size, said in zip(codes, names, texts, sizes, found, strict=True):
            reference = normalize(prompt.decode(text[:size]), name).words
            aligned = align(reference, normalize(prompt.decode(said.ids), name).words)
            self.errors[code] += aligned.errors
            self.words[code] += aligned.n_ref
            self.utterances += 1

    def finish(self, reporter: SubReporter) -> dict[str, float]:
        """Put the rates of all ranks together; every rank calls it after the last batch.

        Args:
            reporter: Of the validation; gets `wer` and `wer_cs`, ..., in percent.

        Returns:
            The new statistics; languages without a word have none.
        """
        if not self.on:
            return {}
        gathered = self.ranks.gather([*self.errors, *self.words, float(self.utterances)])
        totals = [sum(column) for column in zip(*gathered, strict=True)]
        size = len(self.languages)
        errors, words, self.total = totals[:size], totals[size : 2 * size], int(totals[-1])
        found = {"wer": (sum(errors), sum(words))}
        for name, wrong, spoken in zip(self.languages, errors, words, strict=True):
            found[f"wer_{name}"] = (wrong, spoken)
        rates = {}
        for name, (wrong, spoken) in found.items():
            if spoken:
                rates[name] = 100 * wrong / spoken
                reporter.stats[name] = [WeightedAverage(rates[name], spoken)]
        return rates

    def describe(self, rates: dict[str, float]) -> str:
        """Say the rates in one line."""
        parts = [f"{n.removeprefix('wer_')} {r:.1f}" for n, r in rates.items() if n != "wer"]
        by = f" ({', '.join(parts)})" if parts else ""
        return f"WER {rates.get('wer', float('nan')):.1f} %{by} on {self.total} utterances"


def check(utterances: int, data: str, criteria: Iterable[Iterable[str]]) -> None:
    """Check that what a run is stopped or chosen by will be measured.

    Args:
        utterances: `--valid_wer_utts`.
        data: `text` or `paired`.
        criteria: ESPnet's, such as `("valid", "wer", "min")`.

    Raises:
        ValueError: If a criterion is a WER that nobody measures, or there is no speech.
    """
    if utterances < 0:
        raise ValueError(f"--valid_wer_utts is 0 or more, got {utterances}")
    if utterances and data == "text":
        raise ValueError("--valid_wer_utts: this stage has no speech to decode")
    for criterion in criteria:
        phase, key, _ = criterion
        if key.startswith("wer") and (phase != "valid" or not utterances):
            raise ValueError(
                f"the criterion '{phase} {key}' needs --valid_wer_utts N, the number of validation "
                "utterances to decode after each epoch, and is called 'valid wer min'"
            )
