"""Validation loss, perplexity and accuracy of each language apart, through ESPnet's reporter.

ESPnet averages every statistic of a batch with one weight, here the batch's counted tokens. A
mean over one language's tokens is no such average, but it is a quotient of two: a batch reports,
for each language, the sum of the losses and the number of tokens, both divided by the batch's
tokens. They are averaged over batches and ranks like any other statistic (every batch has them
all, zeros for a language that it lacks), and `summarise` divides at the end of the epoch. The
results are exact averages over a language's tokens, however the batches are made up.
"""

import math
from collections.abc import Sequence

import torch
from espnet2.train.reporter import SubReporter, WeightedAverage

SUMS = ("nll", "hits", "tokens")  # of one language, as shares of the batch's tokens
MEANS = ("loss", "ppl", "acc")


def batch_sums(
    nll: torch.Tensor, hits: torch.Tensor, codes: torch.Tensor, languages: Sequence[str]
) -> dict[str, torch.Tensor]:
    """Sum a batch's losses by language.

    Args:
        nll: `(tokens,)` float, the loss of each counted token.
        hits: `(tokens,)` bool, whether the model's best guess is right.
        codes: `(tokens,)` long, index into `languages` of each token's utterance or line; -1 where
            it is not known.
        languages: Names, the same in every batch.

    Returns:
        `cs:nll`, `cs:hits`, `cs:tokens`, ...: float32 scalars, each divided by `tokens`.
    """
    rows = torch.stack([nll.float(), hits.float(), torch.ones_like(nll, dtype=torch.float32)])
    sums = rows.new_zeros(len(SUMS), len(languages) + 1)
    sums.index_add_(1, codes + 1, rows)  # column 0 is what has no language
    shares = sums[:, 1:] / len(nll)
    return {
        f"{language}:{name}": shares[row, column]
        for column, language in enumerate(languages)
        for row, name in enumerate(SUMS)
    }


def summarise(reporter: SubReporter) -> dict[str, float]:
    """Replace an epoch's sums by means: `loss_cs`, `ppl_cs`, `acc_cs`, ... and the exact `ppl`.

    The mean of the batches' perplexities, which ESPnet would report as `ppl`, depends on how the
    batches are made up; the perplexity of the set is exp(mean loss).

    Args:
        reporter: After its last batch. The new statistics are then in ESPnet's log, checkpoint and
            TensorBoard, and `best_model_criterion` may name them. A language without a token gets
            none.

    Returns:
        The new statistics.
    """
    stats = reporter.stats
    found: dict[str, tuple[float, float]] = {}  # name -> value, number of tokens
    losses = [(v.value, v.weight) for v in stats.get("loss", ()) if math.isfinite(v.value)]
    if tokens := sum(weight for _, weight in losses):
        mean = sum(value * weight for value, weight in losses) / tokens
        found["ppl"] = (_exp(mean), tokens)
    for language in [key.partition(":")[0] for key in stats if key.endswith(":tokens")]:
        parts = [stats.pop(f"{language}:{name}") for name in SUMS]
        nll = hits = tokens = 0.0
        for values in zip(*parts, strict=True):
            # As in ESPnet's averages, what is not finite in a batch is left out.
            if all(math.isfinite(v.value) for v in values):
                nll += values[0].value * values[0].weight
                hits += values[1].value * values[1].weight
                tokens += values[2].value * values[2].weight
        if tokens:
            found[f"loss_{language}"] = (nll / tokens, tokens)
            found[f"ppl_{language}"] = (_exp(nll / tokens), tokens)
            found[f"acc_{language}"] = (hits / tokens, tokens)
    for name, (value, weight) in found.items():
        stats[name] = [WeightedAverage(value, weight)]
    return {name: value for name, (value, _) in found.items()}


def _exp(loss: float) -> float:
    return math.exp(loss) if loss < 700 else math.inf


def describe(now: dict[str, float], start: dict[str, float]) -> str:
    """Say in one line how the perplexity of each language stands against the start of the run.

    Args:
        now: As `summarise` returns it.
        start: The same of the model that training started from; may be empty.
    """
    parts = []
    for name, value in now.items():
        if name.startswith("ppl_"):
            change, before = "", start.get(name, math.nan)
            if math.isfinite(before):
                change = f" ({100 * (value / before - 1):+.0f} %)"
            parts.append(f"{name.removeprefix('ppl_')} {value:.4g}{change}")
    if not parts:
        return ""
    since = ", against the start" if any(name in start for name in now) else ""
    return f"perplexity by language{since}: {', '.join(parts)}"
