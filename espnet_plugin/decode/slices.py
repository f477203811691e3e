"""What makes decoding faster on a CPU, with no change but rounding.

Batches are cut into slices of similar length (little padding, and what fits the cache), and the
decoder's weights lie in memory as products with few rows want them. An utterance's result does
not depend on its batch.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from espnet_plugin.whisper import SLICE, Cache, encode, length_mask, start_cache

POSITIONS = SLICE // 2  # positions of the encoder's output: two frames each


def lay_out_for_few_rows(decoder: Any) -> None:
    """Transpose a decoder's weights in memory; their values and shapes stay.

    A step of decoding has one row an utterance. With up to about a hundred rows a product takes a
    CPU a fifth to a half less time where the weight's rows, not its columns, are far apart.

    Args:
        decoder: On the CPU. The `(out, in)` weights of its linear layers get the strides
            `(1, out)`, and so does the token embedding, which is the output projection.
    """
    for layer in decoder.modules():
        if isinstance(layer, torch.nn.Linear) or layer is decoder.embed_tokens:
            layer.weight.data = layer.weight.data.t().contiguous().t()


def cut(lengths: Sequence[int], most: int) -> Iterator[tuple[slice, int]]:
    """Cut a batch into slices of rows.

    Args:
        lengths: Of the rows; batches are sorted by it.
        most: The most that a slice may hold with its padding; a longer row is alone.

    Yields:
        The rows of a slice, and the length of its longest.
    """
    first = longest = 0
    for row, length in enumerate(lengths):
        if row > first and (row - first + 1) * max(longest, length) > most:
            yield slice(first, row), longest
            first, longest = row, 0
        longest = max(longest, length)
    if lengths:
        yield slice(first, len(lengths)), longest


def encode_slices(
    whisper: Any, features: torch.Tensor, frames: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the encoder as `whisper.encode` does, by slices where that is faster.

    Args:
        whisper: A transformers `WhisperModel`.
        features: `(B, mel, frames)` float.
        frames: `(B,)` long, frames to be attended.

    Returns:
        `(B, T, D)` float, zero beyond each slice's longest row, and `(B,)` long lengths in T.
    """
    if features.device.type != "cpu":
        return encode(whisper, features, frames)
    memory = lengths = features.new_empty(0)
    for rows, longest in cut(frames.tolist(), SLICE):
        part, part_lengths = encode(whisper, features[rows, :, :longest], frames[rows])
        if rows.start == 0:
            positions = (features.shape[-1] + 1) // 2
            memory = part.new_zeros(len(features), positions, part.shape[-1])
            lengths = part_lengths.new_empty(len(features))
        memory[rows, : part.shape[1]], lengths[rows] = part, part_lengths
    return memory, lengths


def start_contiguous(whisper: Any, memory: torch.Tensor, lengths: torch.Tensor) -> Cache:
    """Project an encoder output as `whisper.start_cache` does, each head's part contiguous.

    It is read whole at every step: a quarter faster on CPUs where it is contiguous.

    Args:
        whisper: A transformers `WhisperModel`.
        memory: `(B, T, D)` float, the encoder's output.
        lengths: `(B,)` long, lengths in T.
    """
    if memory.device.type != "cpu":
        cache = start_cache(whisper, memory, lengths)
        for layer, (keys, values) in enumerate(cache.cross):
            # one after another, so that no more than a layer is there twice
            cache.cross[layer] = keys.contiguous(), values.contiguous()
        return cache
    whole: list[tuple[torch.Tensor, torch.Tensor]] = []
    for rows, longest in cut(lengths.tolist(), POSITIONS):
        part = start_cache(whisper, memory[rows, :longest], lengths[rows]).cross
        if not whole:
            for _, values in part:
                shape = (len(memory), values.shape[1], memory.shape[1], values.shape[3])
                whole.append((values.new_zeros(shape), values.new_zeros(shape)))
        for (to_keys, to_values), (keys, values) in zip(whole, part, strict=True):
            to_keys[rows, :, :longest], to_values[rows, :, :longest] = keys, values
    return Cache(length_mask(lengths, memory.shape[1]), whole)


def drop_rows(cache: Cache, over: Sequence[bool]) -> torch.Tensor:
    """Take rows out of a cache in place: rows from its end fill the gaps, the others stay put.

    Args:
        cache: Its tensors are overwritten.
        over: One for each row: whether it goes.

    Returns:
        The old row of each new one, long.
    """
    left = over.count(False)
    device = cache.cross[0][0].device
    gaps = torch.tensor([row for row, gone in enumerate(over[:left]) if gone], device=device)
    last = [row for row, gone in enumerate(over) if row >= left and not gone]
    movers = torch.tensor(last, device=device)
    order = torch.arange(left, device=device)
    if last:
        order[gaps] = movers

    def drop(x: torch.Tensor) -> torch.Tensor:
        if last:
            x[gaps] = x[movers]
        return x[:left]

    cache.own = [(drop(k), drop(v)) for k, v in cache.own]
    cache.cross = [(drop(k), drop(v)) for k, v in cache.cross]
    if cache.memory_mask is not None:
        cache.memory_mask = drop(cache.memory_mask)
    return order
