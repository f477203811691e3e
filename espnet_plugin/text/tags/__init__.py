"""Word-level language tags for text in two languages."""

from espnet_plugin.text.tags.tagger import Tagger

__all__ = ["Tagger"]
