"""Samples as Whisper hears them: floats within -1..1, whatever a reader or a caller gives.

ESPnet's readers give floats for `sound` and 16-bit integers for `kaldi_ark`, and divide by nothing:
a model that is given integers as they are hears noise and writes fluent nonsense.
"""

import numpy as np

FULL_SCALE = 32768.0  # of 16-bit samples
LOUDEST = 8.0  # filters and lossy formats overshoot 1, by far less than this


def as_samples(speech: np.ndarray, where: str) -> np.ndarray:
    """Return audio as float32 within -1..1.

    Args:
        speech: Samples, of any shape: floats within -1..1, or integers of 16 bits, which may be
            stored in wider ones.
        where: The utterance, for messages.

    Raises:
        ValueError: A sample is NaN or infinite, or the samples are of another scale or type.
    """
    if speech.dtype.kind not in "if":
        raise ValueError(f"{where}: samples of type {speech.dtype}; floats or int16 are needed")
    low, high = (float(speech.min()), float(speech.max())) if speech.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"{where}: the audio holds NaN or Inf")
    if speech.dtype.kind == "i":
        if low < -FULL_SCALE or high >= FULL_SCALE or speech.dtype.itemsize < 2:
            raise ValueError(
                f"{where}: {speech.dtype} samples from {low:.0f} to {high:.0f}; integers are of 16 "
                "bits (-32768..32767), others are to be divided by their full scale"
            )
        return np.asarray(speech / FULL_SCALE, dtype=np.float32)
    if max(-low, high) > LOUDEST:
        raise ValueError(
            f"{where}: samples from {low:.4g} to {high:.4g}, expected within -1..1; are they "
            "16-bit samples, to be divided by 32768?"
        )
    return np.asarray(speech, dtype=np.float32)
