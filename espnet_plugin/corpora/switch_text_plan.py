"""What decides how text is switched."""

from dataclasses import dataclass

import numpy as np

from espnet_plugin.corpora.switch_patterns import CMI_STEP, Patterns, tilt
from espnet_plugin.corpora.switch_text_pairs import Inputs

ALIGNMENTS = ("statistics", "lexicon")


@dataclass(frozen=True)
class Plan:
    """Everything that decides a candidate; hashable and picklable.

    Attributes:
        inputs: Where sentences come from.
        pair: The tagger's language pair: a name or a YAML file.
        lexicon: Translation lexicons.
        alignment: ``statistics`` or ``lexicon``: what links the words of a parallel corpus.
        patterns: File of measured patterns; None for those that ship.
        rules: File of rules; None for those that ship.
        cmi: Wanted mean code-mixing index; None for the measured one.
        matrix: Language of monolingual records that do not say theirs; None to go by their tags.
        tries: Candidates to draw for a sentence.
        seed: Of the draws.
        translations: File of learnt translations; None without.
        excluded: File of hashes of sentences that must not be made; None without.
    """

    inputs: Inputs
    pair: str = "ms-en"
    lexicon: tuple[str, ...] = ()
    alignment: str = "statistics"
    patterns: str | None = None
    rules: str | None = None
    cmi: float | None = None
    matrix: str | None = None
    tries: int = 8
    seed: int = 0
    translations: str | None = None
    excluded: str | None = None

    def __post_init__(self) -> None:
        if self.alignment not in ALIGNMENTS:
            raise ValueError(f"alignment is '{self.alignment}', not {' or '.join(ALIGNMENTS)}")
        if not self.lexicon and (self.inputs.monolingual or self.alignment == "lexicon"):
            raise ValueError(
                "--lexicon is needed: nothing else says how monolingual text is translated"
                if self.inputs.monolingual
                else "--alignment lexicon needs --lexicon"
            )
        if self.tries < 1:
            raise ValueError(f"tries is at least 1, got {self.tries}")


def targets(patterns: Patterns, cmi: float | None) -> dict[str, np.ndarray]:
    """Return the wanted histograms as shares.

    Args:
        patterns: As measured.
        cmi: Wanted mean code-mixing index; the histogram is bent to it.

    Raises:
        ValueError: An index that no mixture of measured lines has.
    """
    wanted = {name: patterns.shares(name) for name in patterns.counts}
    if cmi is not None:
        middles = CMI_STEP * (np.arange(len(wanted["cmi"])) - 0.5)
        # bins are ranges: their middles, less what the middles are off the measured mean
        off = float(middles @ wanted["cmi"]) - patterns.mean_cmi
        try:
            wanted["cmi"] = tilt(wanted["cmi"], middles - off, cmi)
        except ValueError as error:
            raise ValueError(f"--cmi {cmi:g}: {error}") from None
    return wanted
