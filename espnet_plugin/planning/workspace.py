"""Memory of a step beside layers: the loss over the vocabulary, the audio and its features."""

import math
from dataclasses import dataclass

from espnet_plugin.planning.shapes import Shape

SAMPLES = 320  # of audio, 16 kHz, for an encoder position of 20 ms
# Per sample: waveform and its padded copy (4 + 4 bytes); spectrum of 201 complex bins for 160
# samples (10), its magnitude and square (5 + 5). Source: `features.LogMel`.
FEATURE_BYTES = 28


@dataclass(frozen=True)
class Loss:
    """Bytes of the chunked loss (`loss.py`).

    Attributes:
        working: While it is computed: logits of a chunk, copies of the table.
        kept: From there to the backward pass: the gradient of the states.
        table: The gradient of the embedding, made with the loss; 0 where it does not move.
    """

    working: int
    kept: int
    table: int


def chunk(device: str, memory: float, vocab: int) -> int:
    """Return the rows of logits that are held at once, as `loss.chunk_rows` does on a device.

    Args:
        device: `cuda` or `cpu`.
        memory: Bytes of the device.
        vocab: Entries of the vocabulary.
    """
    from espnet_plugin import loss

    if device == "cuda":
        rows = int(loss.SHARE * memory / (8 * vocab))
    else:
        rows = loss.CPU_BYTES // (4 * vocab)
    return max(loss.LEAST, min(loss.MOST, rows // loss.LEAST * loss.LEAST))


def loss_bytes(
    shape: Shape,
    rows: int,
    device: str,
    memory: float,
    half: bool,
    table_moves: bool,
) -> Loss:
    """Count the chunked loss; liger's and cce's take less.

    Args:
        shape: Of the model.
        rows: Decoder positions of the batch; prompt positions, which do not count, included.
        device: `cuda` or `cpu`.
        memory: Bytes of the device.
        half: Whether products run in bfloat16.
        table_moves: Whether the embedding is trained.
    """
    chunks = max(1, math.ceil(rows / chunk(device, memory, shape.vocab)))
    at_once = math.ceil(rows / chunks) * shape.vocab
    states = 4 * shape.width * rows
    table = shape.vocab * shape.width
    item = 2 if half else 4
    logits = at_once * item
    if half and device == "cuda":  # in float32 for the softmax; a CPU takes few rows at a time
        logits = max(logits, at_once * (item + 4))
    working = logits + 2 * states  # the decoder's states, and those that count
    working += 2 * table if half else 0
    if table_moves:
        working += (2 if half else 0) * table  # a chunk's product, before it is added
        # A CPU adds it to the float32 sum by way of a float32 copy.
        working += 4 * table if half and device == "cpu" and chunks > 1 else 0
    kept, grown = states, 4 * table if table_moves else 0
    return Loss(working, kept, grown)


def feature_bytes(positions: int) -> int:
    """Return the bytes of audio and features while they are computed, for encoder positions."""
    return positions * SAMPLES * FEATURE_BYTES


def audio_bytes(positions: int, mels: int) -> int:
    """Return the bytes of the waveforms and features, which stay through the step."""
    return positions * (SAMPLES * 4 + 2 * mels * 4)
