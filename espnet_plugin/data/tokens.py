"""How many tokens a text has for the decoder; needs the tokenizer only, neither torch nor model."""

from collections.abc import Sequence
from pathlib import Path

from espnet_plugin.checkpoint import read_json
from espnet_plugin.prompt import text_tokenizer


class TokenCounter:
    """Counts the tokens of ``" " + text`` as `espnet_plugin.prompt` makes them (style ``as_is``).

    Attributes:
        vocab_size: Of the model: the number of its embeddings.
        max_positions: Of the model's decoder: 448.

    Args:
        model_dir: A Hugging Face Whisper directory.

    Raises:
        FileNotFoundError: It lacks ``tokenizer.json`` or ``config.json``.
        ValueError: One of them cannot be read.
    """

    def __init__(self, model_dir: str | Path) -> None:
        self._tokenizer = text_tokenizer(model_dir)
        config = read_json(Path(model_dir) / "config.json")
        try:
            self.vocab_size = int(config["vocab_size"])
            self.max_positions = int(config["max_target_positions"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{model_dir}/config.json: not a Whisper model ({error!r})") from None

    def count(self, texts: Sequence[str]) -> list[int]:
        """Return the number of tokens of each text, without prompt and end; 0 for an empty one."""
        lines = [" " + text.strip() for text in texts]
        encoded = self._tokenizer.encode_batch_fast(lines, add_special_tokens=False)
        return [
            len(entry.ids) if line.strip() else 0
            for line, entry in zip(lines, encoded, strict=True)
        ]
