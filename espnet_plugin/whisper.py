"""Forward passes over a transformers Whisper module that respect lengths and use a cache.

transformers' own forward attends to padding (its encoder insists on 3 000 frames and takes no
mask, its decoder ignores the encoder's mask), so a result would depend on the batch. The layers
and weights are transformers'; only the order in which they are called is written here.

Shapes: B batch, L tokens, T encoder positions (frames / 2), D model width, H heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from espnet_plugin.casting import shared

MEMORIES = ("zero", "skip")
Pair = tuple[torch.Tensor, torch.Tensor]
SLICE = 4096  # frames that a CPU encodes at once without gradients: what fits its cache is faster


def load_whisper(model_dir: str | Path) -> Any:
    """Load the encoder and decoder of a Hugging Face Whisper directory, strictly, in float32.

    The output projection is the token embedding (tied) and is not a module of its own. From here on
    this process computes attention without cuDNN: by FlashAttention or the kernel for masks.

    Raises:
        FileNotFoundError: If the directory or its files are missing.
        ValueError: If a tensor is missing, surplus or of another shape.
    """
    from transformers import WhisperConfig
    from transformers.models.whisper.modeling_whisper import WhisperModel

    from espnet_plugin.checkpoint import check_state, load_config, load_state

    # On Hopper and later torch prefers cuDNN's attention, which builds a plan for each new shape:
    # some 30 ms, as long as a step of decoding, and here each batch and each step has its own.
    torch.backends.cuda.enable_cudnn_sdp(False)
    settings = load_config(model_dir)
    if settings.get("encoder_layerdrop") or settings.get("decoder_layerdrop"):
        raise ValueError(f"{model_dir}/config.json: layerdrop is not supported, set it to 0")
    if settings.get("tie_word_embeddings") is False:
        raise ValueError(f"{model_dir}/config.json: an untied output projection is not supported")
    state = load_state(model_dir)
    check_state(state, settings, str(model_dir))
    with torch.device("meta"):
        model = WhisperModel(WhisperConfig.from_dict(settings))
    bare = {name.removeprefix("model."): tensor.float() for name, tensor in state.items()}
    model.load_state_dict(bare, strict=True, assign=True)
    model.requires_grad_(True)
    model.encoder.embed_positions.requires_grad_(False)
    return model


@dataclass
class Cache:
    """Keys and values of one decoding: `(B, H, L or T, D / H)` per layer.

    Attributes:
        memory_mask: `(B, 1, 1, T)` bool, True where attended; None where nothing is padded.
        cross: Per layer, keys and values of the encoder's output.
        own: Per layer, keys and values of the tokens so far.
        length: Tokens so far.
    """

    memory_mask: torch.Tensor | None
    cross: list[tuple[torch.Tensor, torch.Tensor]]
    own: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    length: int = 0

    def select(self, rows: torch.Tensor, cross: bool = True) -> None:
        """Keep or repeat rows: `(new B,)` long; without `cross`, only the tokens' part."""
        self.own = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.own]
        if cross:
            self.cross = [(k.index_select(0, rows), v.index_select(0, rows)) for k, v in self.cross]
            if self.memory_mask is not None:
                self.memory_mask = self.memory_mask.index_select(0, rows)


def _heads(attention: Any, x: torch.Tensor) -> torch.Tensor:
    return x.view(*x.shape[:2], -1, attention.head_dim).transpose(1, 2)


def _keys_values(
    attention: Any, for_keys: torch.Tensor, for_values: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    keys, values = attention.k_proj(for_keys), attention.v_proj(for_values)
    return _heads(attention, keys), _heads(attention, values)


def _attend_self(
    attention: Any, x: torch.Tensor, mask: torch.Tensor | None = None, causal: bool = False
) -> torch.Tensor:
    for_query, *others = shared(x, 3)
    return _attend(attention, for_query, _keys_values(attention, *others), mask, causal)


def _attend(
    attention: Any,
    x: torch.Tensor,
    keys_values: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None = None,
    causal: bool = False,
) -> torch.Tensor:
    # The query is scaled before the product, as transformers does: the rounding is the same.
    query = _heads(attention, attention.q_proj(x) * attention.scaling)
    drop = attention.dropout if attention.training else 0.0
    if causal and _plain_is_faster(query):
        out = _plain_attention(query, *keys_values, drop)
    else:
        out = F.scaled_dot_product_attention(
            query, *keys_values, attn_mask=mask, dropout_p=drop, is_causal=causal, scale=1.0
        )
    return attention.out_proj(out.transpose(1, 2).reshape(x.shape))


def _plain_is_faster(query: torch.Tensor) -> bool:
    # The gradient of torch's fused attention in bfloat16 takes a CPU five times as long as this,
    # for lines of text; in float32 they are alike.
    return query.device.type == "cpu" and query.dtype == torch.bfloat16 and query.requires_grad


def _plain_attention(
    query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor, drop: float
) -> torch.Tensor:
    """Causal attention step by step, `(B, H, L, D / H)` each."""
    length = query.shape[2]
    future = torch.full((length, length), -torch.inf, dtype=query.dtype).triu(1)
    scores = torch.baddbmm(future, query.flatten(0, 1), keys.flatten(0, 1).transpose(1, 2))
    shares = F.dropout(scores.softmax(-1), drop)
    return (shares @ values.flatten(0, 1)).unflatten(0, query.shape[:2])


def _drop(layer: Any, x: torch.Tensor) -> torch.Tensor:
    return F.dropout(x, layer.dropout, layer.training) if layer.dropout else x


def _feed_forward(layer: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = layer.activation_fn(layer.fc1(layer.final_layer_norm(x)))
    if layer.activation_dropout:
        hidden = F.dropout(hidden, layer.activation_dropout, layer.training)
    return x + _drop(layer, layer.fc2(hidden))


def length_mask(lengths: torch.Tensor, longest: int, ask: bool = True) -> torch.Tensor | None:
    """Return `(B, 1, 1, longest)` bool, True inside each length; None if nothing is padded.

    Args:
        lengths: `(B,)` long.
        longest: Positions.
        ask: Whether to look at the lengths. A GPU has to finish all that it was given before it
            answers; without the question there is a mask in any case.
    """
    if ask and int(lengths.min()) >= longest:
        return None
    inside = torch.arange(longest, device=lengths.device) < lengths[:, None]
    return inside[:, None, None, :]


def encode(
    whisper: Any,
    features: torch.Tensor,
    frames: torch.Tensor,
    layer_pass: Callable[..., torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Run the encoder; an utterance's output does not depend on its batch.

    Args:
        whisper: A transformers `WhisperModel`.
        features: `(B, mel, frames)` float, zero beyond each utterance's `frames`.
        frames: `(B,)` long, frames to be attended.
        layer_pass: In place of `encoder_layer`, e.g. its compiled form.

    Returns:
        `(B, T, D)` float with T = ceil(frames / 2), and `(B,)` long lengths in T.
    """
    rows = max(1, SLICE // features.shape[-1])
    if features.device.type != "cpu" or torch.is_grad_enabled() or rows >= len(features):
        return _encode(whisper, features, frames, layer_pass)
    parts = zip(features.split(rows), frames.split(rows), strict=True)
    encoded = [_encode(whisper, *part, layer_pass) for part in parts]
    return torch.cat([memory for memory, _ in encoded]), torch.cat([n for _, n in encoded])


def _encode(
    whisper: Any,
    features: torch.Tensor,
    frames: torch.Tensor,
    layer_pass: Callable[..., torch.Tensor] | None = None,
) -> tuple[torch.Tensor, torch.Tensor]:
    encoder = whisper.encoder
    x = F.gelu(encoder.conv1(features))
    if (mask := length_mask(frames, x.shape[-1])) is not None:
        x = x * mask[:, 0]  # what the next convolution sees past the end is its zero padding
    x = F.gelu(encoder.conv2(x)).transpose(1, 2)
    lengths = torch.div(frames + 1, 2, rounding_mode="floor")
    # A sum keeps its first term's strides: with the positions first all that follows is contiguous,
    # not one copy a layer norm.
    x = encoder.embed_positions.weight[: x.shape[1]] + x
    x = _drop(encoder, x)
    mask = length_mask(lengths, x.shape[1])
    for layer in encoder.layers:
        x = (layer_pass or encoder_layer)(layer, x, mask)
    return encoder.layer_norm(x), lengths


def encoder_layer(layer: Any, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    """Run one encoder layer: `(B, T, D)` to the same; `mask` as `length_mask` returns it."""
    y = _attend_self(layer.self_attn, layer.self_attn_layer_norm(x), mask)
    return _feed_forward(layer, x + _drop(layer, y))


def start_cache(whisper: Any, memory: torch.Tensor, lengths: torch.Tensor) -> Cache:
    """Project an encoder output `(B, T, D)` once, for decoding token by token."""
    layers = whisper.decoder.layers
    cross = [_keys_values(layer.encoder_attn, memory, memory) for layer in layers]
    return Cache(length_mask(lengths, memory.shape[1]), cross)


def decode(
    whisper: Any,
    tokens: torch.Tensor,
    memory: torch.Tensor | str,
    lengths: torch.Tensor | None = None,
    cache: Cache | None = None,
    layer_pass: Callable[..., torch.Tensor] | None = None,
    embedded: torch.Tensor | None = None,
) -> torch.Tensor:
    """Run the decoder over tokens.

    Padding is on the right, so causality keeps it away from what comes before.

    Args:
        whisper: A transformers `WhisperModel`.
        tokens: `(B, L)` long; with a cache, the tokens that are new since the last call.
        memory: The encoder's output `(B, T, D)`; or `zero`: an encoder output of zeros (paper
            III-B-1, x = 0), exact whatever its length; or `skip`: no cross-attention at all, a
            documented approximation. Ignored with a cache, which holds the memory's projection.
        lengths: `(B,)` long, lengths of the memory; None if nothing is padded.
        cache: Extended in place.
        layer_pass: In place of `decoder_layer`, e.g. its compiled form.
        embedded: `(B, L, D)`, the tokens' embeddings where they were looked up already.

    Returns:
        States after the last layer norm, `(B, L, D)`; `logits` turns them into scores.
    """
    decoder = whisper.decoder
    past = cache.length if cache is not None else 0
    x = decoder.embed_tokens(tokens) if embedded is None else embedded
    x = x * decoder.embed_scale if decoder.embed_scale != 1 else x
    x = x + decoder.embed_positions.weight[past : past + tokens.shape[1]]
    x = _drop(decoder, x)
    if cache is not None:
        x = _decode_cached(decoder, x, cache)
    else:
        if isinstance(memory, str) and memory not in MEMORIES:
            raise ValueError(f"memory is {' or '.join(MEMORIES)} or a tensor, got '{memory}'")
        mask = None
        if not isinstance(memory, str) and lengths is not None:
            mask = length_mask(lengths, memory.shape[1], ask=lengths.device.type == "cpu")
        memories = _memories(memory, len(decoder.layers))
        for layer, each in zip(decoder.layers, memories, strict=True):
            x = (layer_pass or decoder_layer)(layer, x, each, mask)
    return decoder.layer_norm(x)


def _memories(memory: torch.Tensor | str, layers: int) -> Sequence[Pair | str]:
    """Return each layer's memory, for keys and for values; under autocast all share one copy."""
    if isinstance(memory, str):
        return [memory] * layers
    copies = iter(shared(memory, 2 * layers))
    return list(zip(copies, copies, strict=True))


def decoder_layer(
    layer: Any, x: torch.Tensor, memory: Pair | str, memory_mask: torch.Tensor | None
) -> torch.Tensor:
    """Run one decoder layer over whole sequences, as training does.

    Args:
        layer: A transformers `WhisperDecoderLayer`.
        x: `(B, L, D)`.
        memory: The encoder's output for keys and for values, `(B, T, D)` each; `zero` or `skip`.
        memory_mask: `(B, 1, 1, T)` bool, True where attended; None where nothing is padded.

    Returns:
        `(B, L, D)`.
    """
    y = _attend_self(layer.self_attn, layer.self_attn_layer_norm(x), causal=True)
    x = x + _drop(layer, y)
    if not isinstance(memory, str):
        x = x + _cross(layer, x, _keys_values(layer.encoder_attn, *memory), memory_mask)
    elif memory == "zero":
        # k_proj has no bias: all keys of x = 0 are 0, attention is uniform, each value is
        # v_proj's bias, and their mean is that bias whatever the query and the length.
        attention = layer.encoder_attn
        x = x + _drop(layer, attention.out_proj(attention.v_proj.bias))
    return _feed_forward(layer, x)


def _decode_cached(decoder: Any, x: torch.Tensor, cache: Cache) -> torch.Tensor:
    past, length = cache.length, x.shape[1]
    mask = None
    if past and length > 1:
        mask = torch.ones(length, past + length, dtype=torch.bool, device=x.device).tril(past)
    for index, layer in enumerate(decoder.layers):
        y = layer.self_attn_layer_norm(x)
        keys, values = _keys_values(layer.self_attn, y, y)
        if past:
            old_keys, old_values = cache.own[index]
            keys, values = torch.cat((old_keys, keys), 2), torch.cat((old_values, values), 2)
            cache.own[index] = keys, values
        else:
            cache.own.append((keys, values))
        y = _attend(layer.self_attn, y, (keys, values), mask, causal=not past)
        x = x + _drop(layer, y)
        x = x + _cross(layer, x, cache.cross[index], cache.memory_mask)
        x = _feed_forward(layer, x)
    cache.length = past + length
    return x


def _cross(
    layer: Any,
    x: torch.Tensor,
    keys_values: tuple[torch.Tensor, torch.Tensor],
    mask: torch.Tensor | None,
) -> torch.Tensor:
    y = layer.encoder_attn_layer_norm(x)
    return _drop(layer, _attend(layer.encoder_attn, y, keys_values, mask))


def logits(whisper: Any, hidden: torch.Tensor) -> torch.Tensor:
    """Scores over the vocabulary: `(..., D)` to `(..., vocabulary)`, by the tied embedding."""
    return F.linear(hidden, whisper.decoder.embed_tokens.weight)
