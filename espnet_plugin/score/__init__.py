"""Scoring: one alignment that all metrics read, significance, tables and pictures."""

from espnet_plugin.score.alignment import Alignment, Pair, align
from espnet_plugin.score.switching import cmi

__all__ = ["Alignment", "Pair", "align", "cmi"]
