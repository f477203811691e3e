"""From a Kaldi entry to a training example: audio checked, text turned into decoder input."""

from typing import Any

import numpy as np

from espnet_plugin.augment import Augmentation
from espnet_plugin.features import N_SAMPLES, SAMPLE_RATE
from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.samples import as_samples


class PairPreprocessor:
    """Preprocesses one utterance for ESPnet's dataset.

    A share of the utterances is trained between timestamp tokens, so that Whisper's timestamps
    survive; which ones is a function of the utterance's length alone, hence the same in every
    epoch and on every rank.

    Attributes:
        turn: The number of the pass over the corpus; whoever reads sets it.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        timestamp_share: float = 0.0,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Remember how to build the decoder's input.

        Args:
            builder: Builds prompt, text and end.
            timestamp_share: Share of utterances with timestamps, 0..1.
            augmentation: Changes the audio; timestamps follow.

        Raises:
            ValueError: If the share is out of range.
        """
        if not 0 <= timestamp_share <= 1:
            raise ValueError(f"timestamp_share lies in 0..1, got {timestamp_share}")
        self.builder = builder
        self.timestamp_share, self.augmentation, self.turn = timestamp_share, augmentation, 0
        self.languages = list(builder.lang_tokens)

    def __call__(self, uid: str, data: dict[str, Any]) -> dict[str, np.ndarray]:
        """Turn `speech`, `text` and `lang` into a training example.

        Returns:
            `speech` `(samples,)` float32; `text` `(tokens,)` int64; `lang` `(1,)` int64, the
            language's place in the builder's table, as `AsyncSwitchModel.languages` counts.

        Raises:
            ValueError: If the audio is empty, not finite, not mono, over 30 s or of another scale
                than -1..1 or 16-bit integers, or the text is empty or too long; names the
                utterance.
        """
        speech = as_samples(np.asarray(data["speech"]), f"utterance {uid}")
        if speech.ndim != 1:
            raise ValueError(f"utterance {uid}: {speech.shape} is not mono audio (stage 3 checks)")
        if not 1 <= len(speech) <= N_SAMPLES:
            raise ValueError(
                f"utterance {uid}: {len(speech) / SAMPLE_RATE:.2f} s of audio, allowed is more "
                "than 0 and at most 30 s (recipe stage 4 filters)"
            )
        draw = (len(speech) * 2_654_435_761 % 2**32) / 2**32  # Knuth's multiplicative hash
        if self.augmentation is not None:
            speech = self.augmentation(uid, self.turn, speech)
        seconds = len(speech) / SAMPLE_RATE
        times = (0.0, seconds) if draw < self.timestamp_share else None
        text = self.builder.encode(data["text"], data["lang"], utt=uid, times=times)
        lang = np.array([self.languages.index(data["lang"])])
        return {"speech": speech, "text": text, "lang": lang}
