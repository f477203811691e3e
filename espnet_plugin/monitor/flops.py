"""Floating-point operations of an update by formula: products and attention, nothing else.

A product of `(rows, n)` and `(n, m)` takes 2 rows n m. Its backward pass takes as much again for
the gradient of its input, where something before it moves, and once more for the gradient of its
weight, where the weight moves. Attention of Q queries over K keys takes 4 Q K D forward and twice
that backward. So stage 1 pays no encoder, stage 2 an encoder once and the decoder's weights not,
and plain fine-tuning three times the forward pass. Causal attention is counted whole, as is usual.
Padding counts (it is computed); what checkpointing computes anew does not: MFU is the model's work.

D is the width, T the encoder's positions (20 ms each), L the decoder's, both with padding.
Source of the convention: Chowdhery et al., PaLM, arXiv 2204.02311, appendix B.
"""

from collections.abc import Set
from dataclasses import dataclass

from espnet_plugin.planning.activations import Batch, moving_modules
from espnet_plugin.planning.shapes import Shape


@dataclass
class Cost:
    """Operations as a polynomial in the batch's sizes.

    Attributes:
        positions: For each encoder position.
        positions2: For each pair of encoder positions of one utterance.
        tokens: For each decoder position.
        tokens2: For each pair of them.
        asking: For each decoder position, in cross-attention; text alone has none.
        cross: For each pair of a decoder and an encoder position.
        memory: For each encoder position, in the decoder's keys and values.
        scored: For each token whose logits are computed.
    """

    positions: float = 0.0
    positions2: float = 0.0
    tokens: float = 0.0
    tokens2: float = 0.0
    asking: float = 0.0
    cross: float = 0.0
    memory: float = 0.0
    scored: float = 0.0

    def of(self, batch: Batch, scored: int) -> float:
        """Return the operations of a padded batch, forward and backward.

        Args:
            batch: Its sizes; without positions it is text alone.
            scored: Tokens that count in the loss.
        """
        n, length, frames = batch.size, batch.tokens, batch.positions
        found = n * length * (self.tokens + self.tokens2 * length) + self.scored * scored
        found += n * frames * (self.positions + self.positions2 * frames + self.memory)
        return found + n * length * (frames * self.cross + (self.asking if frames else 0.0))


def cost(shape: Shape, moving: Set[str]) -> Cost:
    """Work out what a batch costs.

    Args:
        shape: Of the model.
        moving: Names of the parameters that are trained (`decoder.layers.0.fc1.weight`, ...); empty
            for a forward pass alone.

    Returns:
        The polynomial.
    """
    return _Walk(shape, moving).cost()


class _Walk:
    """Goes through the model in the order of the forward pass."""

    def __init__(self, shape: Shape, moving: Set[str]) -> None:
        self.shape, self.moving = shape, moving
        self.modules = moving_modules(frozenset(moving))

    def product(self, name: str, needs: bool) -> int:
        """Count how many times a product is done: forward, for its input, for its weight."""
        return 1 + needs + (f"{name}.weight" in self.moving)

    def block(self, name: str, width: int, needs: bool, parts: tuple[str, ...]) -> float:
        """Return the operations of some square products of the same input, for each position."""
        return sum(2.0 * width * width * self.product(f"{name}.{part}", needs) for part in parts)

    def cost(self) -> Cost:
        """Add everything up."""
        shape, found = self.shape, Cost()
        width = shape.width
        # two frames a position in the first convolution, kernels of three
        found.positions += 12.0 * shape.mels * width * self.product("encoder.conv1", False)
        passes = "encoder.conv1" in self.modules
        found.positions += 6.0 * width * width * self.product("encoder.conv2", passes)
        passes = passes or "encoder.conv2" in self.modules
        for index in range(shape.encoder_layers):
            name = f"encoder.layers.{index}."
            each, pairs, passes = self.own(name, passes, shape.encoder_ffn)
            found.positions += each
            found.positions2 += pairs
        memory_passes = passes or "encoder.layer_norm" in self.modules
        passes = bool({"decoder.embed_tokens", "decoder.embed_positions"} & self.modules)
        for index in range(shape.decoder_layers):
            passes = self.decoder_layer(found, index, passes, memory_passes)
        passes = passes or "decoder.layer_norm" in self.modules
        times = self.product("decoder.embed_tokens", passes)
        found.scored += 2.0 * width * shape.vocab * times
        return found

    def attention(self, name: str, norm: str, needs: bool) -> tuple[float, float, bool]:
        """Count self-attention: for each position, for each pair; whether it needs a gradient."""
        width = self.shape.width
        needs = needs or norm in self.modules
        each = self.block(name, width, needs, ("q_proj", "k_proj", "v_proj"))
        inside = needs or any(f"{name}.{part}_proj" in self.modules for part in "qkv")
        pairs = 4.0 * width * (3 if inside else 1)
        each += self.block(name, width, inside, ("out_proj",))
        return each, pairs, inside or f"{name}.out_proj" in self.modules

    def feed_forward(self, layer: str, inner: int, needs: bool) -> tuple[float, bool]:
        """Count a feed-forward part for each position; whether its output needs a gradient."""
        needs = needs or f"{layer}final_layer_norm" in self.modules
        each = 2.0 * self.shape.width * inner * self.product(f"{layer}fc1", needs)
        needs = needs or f"{layer}fc1" in self.modules
        each += 2.0 * self.shape.width * inner * self.product(f"{layer}fc2", needs)
        return each, needs or f"{layer}fc2" in self.modules

    def own(self, layer: str, needs: bool, inner: int) -> tuple[float, float, bool]:
        """Count an encoder layer."""
        norm = f"{layer}self_attn_layer_norm"
        each, pairs, after = self.attention(f"{layer}self_attn", norm, needs)
        more, after = self.feed_forward(layer, inner, needs or after)
        return each + more, pairs, after

    def decoder_layer(self, found: Cost, index: int, needs: bool, memory_needs: bool) -> bool:
        """Add a decoder layer; return whether its output needs a gradient."""
        layer, width = f"decoder.layers.{index}.", self.shape.width
        norm = f"{layer}self_attn_layer_norm"
        each, pairs, after = self.attention(f"{layer}self_attn", norm, needs)
        needs = needs or after
        found.tokens += each
        found.tokens2 += pairs
        cross, norm = f"{layer}encoder_attn", f"{layer}encoder_attn_layer_norm"
        asks = needs or norm in self.modules
        query = self.block(cross, width, asks, ("q_proj",))
        found.memory += self.block(cross, width, memory_needs, ("k_proj", "v_proj"))
        inside = asks or memory_needs
        inside = inside or any(f"{cross}.{part}_proj" in self.modules for part in "qkv")
        found.cross += 4.0 * width * (3 if inside else 1)
        query += self.block(cross, width, inside, ("out_proj",))
        found.asking += query
        needs = inside or f"{cross}.out_proj" in self.modules
        more, needs = self.feed_forward(layer, self.shape.decoder_ffn, needs)
        found.tokens += more
        return needs
