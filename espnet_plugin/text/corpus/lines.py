"""Which lines of a block stay: limits on words, tokens, scripts, languages and code-mixing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import regex

from espnet_plugin.score.switching import INDEPENDENT
from espnet_plugin.text.corpus.plan import NO_LANG, Plan

# Reasons to drop a line that could be read, in the order in which they are looked for.
REASONS = (
    "empty",  # nothing is left after cleaning
    "too_few_words",
    "too_many_words",
    "script",
    "language",
    "cmi_low",
    "cmi_high",
    "too_many_tokens",
)
_LETTER = regex.compile(r"\p{L}")


@dataclass
class Judged:
    """What is to become of each line of a block: 0 keeps it, else 1 + its place in `REASONS`."""

    verdicts: np.ndarray

    def drop(self, reason: str, lines: np.ndarray) -> None:
        """Drop the lines of a mask `(lines,)` that are not dropped yet."""
        self.verdicts[lines & (self.verdicts == 0)] = 1 + REASONS.index(reason)

    @property
    def kept(self) -> np.ndarray:
        """Mask `(lines,)` of lines that stay."""
        return self.verdicts == 0

    def dropped(self) -> Counter[str]:
        """Count the dropped lines by reason."""
        counts = np.bincount(self.verdicts, minlength=1 + len(REASONS))[1:]
        return Counter({r: int(n) for r, n in zip(REASONS, counts, strict=True) if n})


def judge(
    plan: Plan, texts: Sequence[str], words: np.ndarray, langs: np.ndarray, cmi: np.ndarray
) -> Judged:
    """Apply all limits but that on tokens.

    Args:
        plan: The limits.
        texts: Cleaned lines.
        words: `(lines,)` number of words.
        langs: `(lines,)` uint8, index into the plan's languages, or `NO_LANG`.
        cmi: `(lines,)` code-mixing index.
    """
    config = plan.config
    judged = Judged(np.zeros(len(texts), np.uint8))
    judged.drop("empty", np.fromiter((not text for text in texts), bool, len(texts)))
    judged.drop("too_few_words", words < config.min_words)
    if config.max_words is not None:
        judged.drop("too_many_words", words > config.max_words)
    if config.scripts:
        judged.drop("script", ~in_scripts(plan, texts))
    judged.drop("language", langs == NO_LANG)
    if config.min_cmi > 0 or config.max_cmi < 100:
        mixed = (
            langs == plan.langs.index("cs") if "cs" in plan.langs else np.zeros(len(texts), bool)
        )
        judged.drop("cmi_low", mixed & (cmi < config.min_cmi))
        judged.drop("cmi_high", mixed & (cmi > config.max_cmi))
    return judged


def in_scripts(plan: Plan, texts: Sequence[str]) -> np.ndarray:
    """Tell which lines `(lines,)` have enough letters of the scripts, or no letters at all."""
    letters = plan.tools.letters
    assert letters is not None
    share, latin = plan.config.min_script_share, "Latin" in plan.config.scripts

    def enough(text: str) -> bool:
        if latin and text.isascii():
            return True
        total = len(_LETTER.findall(text))
        return len(letters.findall(text)) >= share * total

    return np.fromiter(map(enough, texts), bool, len(texts))


def cmi_of(codes: np.ndarray, words: np.ndarray, tags: Sequence[str]) -> np.ndarray:
    """Compute each line's code-mixing index, as `espnet_plugin.score.cmi` does.

    Args:
        codes: `(all words,)` uint8, index into `tags`.
        words: `(lines,)` number of words of each line.
        tags: Names of the tags.

    Returns:
        `(lines,)` float64, 0 to 100.
    """
    spoken = [index for index, tag in enumerate(tags) if tag not in INDEPENDENT]
    line = np.repeat(np.arange(len(words)), words)
    counts = np.bincount(line * len(tags) + codes, minlength=len(words) * len(tags))
    counts = counts.reshape(len(words), len(tags))[:, spoken]
    if not spoken:
        return np.zeros(len(words))
    total = counts.sum(axis=1)
    return 100.0 * (1.0 - counts.max(axis=1) / np.maximum(total, 1)) * (total > 0)
