"""Cleaning of web and chat text, by named steps."""

from collections import Counter
from collections.abc import Sequence

STEPS = (
    "nfc",
    "control",
    "html",
    "urls",
    "emails",
    "handles",
    "hashtags",
    "emoji",
    "whisper_tokens",
    "elongation",
    "whitespace",
)
DEFAULT = STEPS


class Cleaner:
    """Cleans blocks of texts; idempotent."""

    def __init__(
        self, steps: Sequence[str] = DEFAULT, languages: Sequence[str] = ("ms", "en")
    ) -> None:
        """Choose steps by name (always done in the order of `STEPS`)."""
        self.steps = tuple(steps)
        self.languages = tuple(languages)

    def clean(self, texts: Sequence[str]) -> tuple[list[str], Counter[str]]:
        """Clean texts; a text may come out empty. Second: texts changed, by step."""
        raise NotImplementedError
