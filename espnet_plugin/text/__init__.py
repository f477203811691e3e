"""Text normalisation for Malay, English and mixed (code-switched) speech."""

from espnet_plugin.text.normalizer import NORMALIZER_VERSION, Normalized, normalize

__all__ = ["NORMALIZER_VERSION", "Normalized", "normalize"]
