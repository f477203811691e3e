"""What a batch makes the devices do: seconds of audio, and operations by formula."""

from collections.abc import Callable, Set
from typing import Any

import torch

from espnet_plugin.monitor.flops import Cost, cost
from espnet_plugin.planning.activations import Batch
from espnet_plugin.planning.shapes import Shape

RATE = 16_000  # Hz
POSITION = 320  # samples of an encoder position, 20 ms


def model_shape(config: Any, name: str = "") -> Shape:
    """Return the sizes of a model from transformers' `WhisperConfig`."""
    return Shape(
        name=name,
        width=config.d_model,
        encoder_layers=config.encoder_layers,
        decoder_layers=config.decoder_layers,
        encoder_heads=config.encoder_attention_heads,
        decoder_heads=config.decoder_attention_heads,
        encoder_ffn=config.encoder_ffn_dim,
        decoder_ffn=config.decoder_ffn_dim,
        vocab=config.vocab_size,
        mels=config.num_mel_bins,
        positions=config.max_source_positions,
        tokens=config.max_target_positions,
    )


class Estimate:
    """Seconds of audio and operations of each batch."""

    def __init__(self, shape: Shape, moving: Callable[[], Set[str]], pad: str = "batch") -> None:
        """Prepare.

        Args:
            shape: Of the model.
            moving: Returns the names of the parameters that move now, as in `flops.cost`.
            pad: Padding of batches that do not say their own.
        """
        self.shape, self.moving, self.pad = shape, moving, pad
        self._cost: Cost | None = None

    def refresh(self) -> None:
        """Ask anew what moves, at the next batch."""
        self._cost = None

    def __call__(self, batch: dict[str, Any], scored: int) -> tuple[float, float]:
        """Return seconds of audio, and operations forward and backward.

        Args:
            batch: What the model is called with.
            scored: Tokens that count in the loss.
        """
        if self._cost is None:
            self._cost = cost(self.shape, self.moving())
        text, lengths = batch["text_lengths"], batch.get("speech_lengths")
        seconds, positions = 0.0, 0
        if lengths is not None:
            seconds = float(lengths.sum()) / RATE
            whole = batch.get("pad", self.pad) == "30s"
            positions = self.shape.positions if whole else -(-int(lengths.max()) // POSITION)
        sizes = Batch(len(text), int(text.max()) - 1, positions)
        return seconds, self._cost.of(sizes, scored)


def moving_names(model: torch.nn.Module) -> Set[str]:
    """Return the names of the parameters that move, as they are within the Whisper module."""
    named = model.named_parameters()
    return {name.rpartition("whisper.")[2] for name, p in named if p.requires_grad}
