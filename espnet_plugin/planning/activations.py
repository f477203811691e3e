"""What a forward pass keeps for the backward pass, counted from `espnet_plugin/whisper.py`.

Autograd saves a product's input only where the product's weight moves, a weight only where the
input needs a gradient, and a layer norm's, an activation function's and attention's inputs
wherever a gradient passes. Sizes are bytes; D is the width, F the inner width of a feed-forward
part, H the heads, w the bytes of a product's element (2 under bfloat16 autocast, else 4). The
residual stream and the layer norms are float32 in either case.

Per position of an encoder or decoder layer in which everything moves:

| kept | float32 | autocast |
| --- | --- | --- |
| layer norm: input, mean, 1 / deviation | 4D + 8 | 4D + 8 |
| q, k, v projections: their input, once (`casting.py`) | 4D | 2D |
| attention: q, k, v, output, log of the sums (no L x L matrix: SDPA) | 16D + 4H | 8D + 4H |
| output projection: the attention's output, counted already | 0 | 0 |
| layer norm of the feed-forward part | 4D + 8 | 4D + 8 |
| fc1's input; GELU's input; fc2's input | 4D + 8F | 2D + 4F |

With F = 4D that is 64D in float32 and 36D under autocast. Cross-attention keeps, per decoder
position, a norm, q's input, q, the output (4D + 8 + 3wD + 4H), and per encoder position k and v
(2wD); their input, the encoder's output (wD), is kept once for all layers. Under autocast every
weight that a gradient passes is kept as a bfloat16 copy too; autocast's own cache is off. A layer
with an adapter of rank r (`lora.py`) keeps wr more per position, for the second of its matrices.

Source: torch's `derivatives.yaml` (what each operator saves). `tests/test_plan.py` counts the same
with `torch.autograd.graph.saved_tensors_hooks`.
"""

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from espnet_plugin.planning.shapes import Shape, parameters

NORM = 8  # bytes of a layer norm's mean and 1 / deviation, float32
RESIDUAL = 4  # bytes of an element of the residual stream
SLICE_POSITIONS = 2048  # whisper.SLICE frames: what a CPU encodes at once without gradients


@dataclass(frozen=True)
class Batch:
    """A padded batch.

    Attributes:
        size: Utterances or lines, B.
        tokens: Decoder positions of each, L.
        positions: Encoder positions of each, T (20 ms); 0 for text alone.
        padded: Whether lengths differ, so that there are masks.
    """

    size: int
    tokens: int
    positions: int = 0
    padded: bool = True


@dataclass
class Segment:
    """A part of the forward pass, in its order.

    Attributes:
        name: For people.
        kept: Bytes of activations from here until the backward pass has been here.
        copies: Likewise, of bfloat16 copies of weights.
        working: Bytes that the backward pass needs here for itself.
        entry: Bytes of the input, which checkpointing keeps in place of the rest; 0 where no
            gradient passes.
        layer: True for transformer layers, which checkpointing recomputes.
        names: Parameters.
    """

    name: str
    kept: int = 0
    copies: int = 0
    working: int = 0
    entry: int = 0
    layer: bool = False
    names: tuple[str, ...] = ()


@functools.lru_cache(maxsize=64)
def moving_modules(moving: frozenset[str]) -> frozenset[str]:
    """Return the names of all modules in which something moves."""
    found = set()
    for name in moving:
        while name := name.rpartition(".")[0]:
            found.add(name)
    return frozenset(found)


@functools.cache
def names_of(shape: Shape, prefix: str) -> tuple[str, ...]:
    """Return the names of the parameters under a prefix."""
    return tuple(name for name in parameters(shape) if name.startswith(prefix))


class Counter:
    """Counts the segments of one batch."""

    def __init__(
        self,
        shape: Shape,
        sizes: Mapping[str, int],
        moving: frozenset[str],
        batch: Batch,
        half: bool,
        device: str,
    ) -> None:
        """Prepare.

        Args:
            shape: Of the model.
            sizes: Elements of each parameter by name.
            moving: Names of the parameters that are trained.
            batch: What is run.
            half: Whether products run in bfloat16 (autocast).
            device: `cuda` or `cpu`.
        """
        self.shape, self.sizes, self.moving, self.batch = shape, sizes, moving, batch
        self.half, self.device, self.item = half, device, 2 if half else 4
        self.width = shape.width
        self.rows = batch.size * batch.tokens
        self.frames = batch.size * batch.positions
        self.encoder_moves = bool(batch.positions) and self._any("encoder")

    def _any(self, module: str) -> bool:
        return module in moving_modules(self.moving)

    def _weights(self, *names: str) -> int:
        """Return the bytes of bfloat16 copies of weights (0 in float32), adapters included."""
        kinds = ("weight", "lora_A.weight", "lora_B.weight")
        sizes = self.sizes
        found = sum(sizes.get(f"{name}.{kind}", 0) for name in names for kind in kinds)
        return 2 * found if self.half else 0

    def _ranks(self, *names: str) -> int:
        """Return the bytes, per position, of what adapters put between their two matrices."""
        return self.item * sum(self.shape.ranks.get(name, 0) for name in names)

    def _copies(self, passes: bool, *names: str) -> int:
        """Return the bytes of copies where a gradient passes or not: then B alone is needed."""
        if passes or not self.half:
            return self._weights(*names)
        return 2 * sum(self.sizes.get(f"{name}.lora_B.weight", 0) for name in names)

    def segments(self) -> list[Segment]:
        """Return the parts of the forward pass in their order, the loss not included."""
        parts: list[Segment] = []
        passes = False  # whether what comes in needs a gradient
        if self.batch.positions and self.encoder_moves:
            passes = self._encoder(parts)
        elif self.batch.positions:
            parts.append(Segment("encoder", names=self._named("encoder.")))
        else:
            parts.append(Segment("encoder (not run)", names=self._named("encoder.")))
        memory_passes = passes
        table = "decoder.embed_tokens.weight"
        passes = bool({table, "decoder.embed_positions.weight"} & set(self.moving))
        start = Segment("embedding", names=(table, "decoder.embed_positions.weight"))
        if table in self.moving:
            start.kept = 8 * self.rows  # the tokens
            # the embedding's own gradient, added to the loss's; on a CPU tied.py has one array
            start.working = 4 * self.sizes[table] if self.device == "cuda" else 0
        parts.append(start)
        if self.keeps_memory():
            start.kept += self.item * self.width * self.frames
        for index in range(self.shape.decoder_layers):
            part = self._decoder_layer(f"decoder.layers.{index}.", passes, memory_passes)
            passes = passes or part.kept > 0
            parts.append(part)
        parts.append(self._norm("decoder.layer_norm", self.rows, passes))
        return parts

    def keeps_memory(self) -> bool:
        """Tell whether the encoder's output is kept, as the input of all k and v projections."""
        layers = range(self.shape.decoder_layers)
        moves = any(self._any(f"decoder.layers.{index}.encoder_attn") for index in layers)
        return moves and self.frames > 0

    def _named(self, prefix: str) -> tuple[str, ...]:
        return names_of(self.shape, prefix)

    def _norm(self, name: str, rows: int, passes: bool) -> Segment:
        on = passes or self._any(name)
        kept = (RESIDUAL * self.width + NORM) * rows if on else 0
        working = 2 * RESIDUAL * self.width * rows if on else 0
        return Segment(name, kept, working=working, names=self._named(name + "."))

    def _encoder(self, parts: list[Segment]) -> bool:
        """Count convolutions, layers and the last norm of an encoder that moves."""
        width, item, frames = self.width, self.item, self.frames
        front = Segment("encoder convolutions", names=self._named("encoder.conv"))
        front.names += self._named("encoder.embed_positions")
        passes = self._any("encoder.conv1")
        if passes:
            # features; GELU's input, conv2's input: two frames a position; the second GELU's input
            front.kept = frames * item * (2 * self.shape.mels + 5 * width)
            front.kept += 2 * frames if self.batch.padded else 0  # the mask between them
            front.copies = self._weights("encoder.conv1", "encoder.conv2")
            front.working = frames * width * (RESIDUAL + 3 * item)
        parts.append(front)
        for index in range(self.shape.encoder_layers):
            name = f"encoder.layers.{index}."
            part = Segment(name[:-1], layer=True, names=self._named(name))
            own = passes or self._any(name + "self_attn")
            self._attention(part, name + "self_attn", frames, self.shape.encoder_heads, passes)
            if own and self.batch.padded:
                part.kept += item * frames  # the mask, as numbers
            self._feed_forward(part, name, frames, self.shape.encoder_ffn, own)
            part.entry = RESIDUAL * width * frames if part.kept else 0
            passes = passes or part.kept > 0
            parts.append(part)
        parts.append(self._norm("encoder.layer_norm", frames, passes))
        return True

    def _attention(self, part: Segment, name: str, rows: int, heads: int, passes: bool) -> None:
        """Add self-attention and its norm."""
        width, item = self.width, self.item
        moves = self._any(name)
        if not (moves or passes):
            return
        projections = [f"{name}.{p}_proj" for p in ("q", "k", "v", "out")]
        if passes := passes or self._any(name + "_layer_norm"):
            part.kept += rows * (RESIDUAL * width + NORM)
        if moves:
            part.kept += rows * (width * item + self._ranks(*projections))
        if name.startswith("decoder") and self.half and self.device == "cpu":
            # whisper._plain_attention: the matrix of shares, no logarithms of sums, and the
            # output only where the output projection moves
            part.kept += rows * (heads * self.batch.tokens + (4 if moves else 3) * width) * item
        else:
            part.kept += rows * 4 * (item * width + heads)
        part.copies += self._copies(passes, *projections[:3]) + self._weights(projections[3])

    def _feed_forward(self, part: Segment, layer: str, rows: int, inner: int, passes: bool) -> None:
        """Add the feed-forward part, its norm, and what the layer's backward pass works with."""
        width, item = self.width, self.item
        moves = self._any(layer + "fc1")
        if not (moves or passes):
            return
        part.kept += rows * item * inner
        if passes := passes or self._any(layer + "final_layer_norm"):
            part.kept += rows * (RESIDUAL * width + NORM)
        if moves:
            part.kept += rows * (item * (width + inner) + self._ranks(layer + "fc1", layer + "fc2"))
        part.copies += self._copies(passes, layer + "fc1") + self._weights(layer + "fc2")
        # the residual's gradient, the norm's, and one of the inner width: what is kept for fc2 is
        # free again when GELU's gradient is made; the gradient of a weight before its cast
        part.working = rows * (2 * RESIDUAL * width + item * inner)
        part.working += self._weights(layer + "fc1") if moves else 0

    def _decoder_layer(self, name: str, passes: bool, memory_passes: bool) -> Segment:
        width, item, rows, frames = self.width, self.item, self.rows, self.frames
        part = Segment(name[:-1], layer=True, names=self._named(name))
        self._attention(part, name + "self_attn", rows, self.shape.decoder_heads, passes)
        passes = passes or part.kept > 0
        cross = name + "encoder_attn"
        moves = self._any(cross)
        if frames and (moves or passes or memory_passes):
            if passes := passes or self._any(cross + "_layer_norm"):
                part.kept += rows * (RESIDUAL * width + NORM)
            if moves:
                part.kept += rows * (
                    item * width + self._ranks(cross + ".q_proj", cross + ".out_proj")
                )
                part.kept += frames * self._ranks(cross + ".k_proj", cross + ".v_proj")
            part.kept += 2 * item * width * (rows + frames) + 4 * self.shape.decoder_heads * rows
            part.kept += item * frames if self.batch.padded else 0
            part.copies += self._weights(cross + ".out_proj")
            if passes or moves:
                part.copies += self._copies(passes, cross + ".q_proj")
            part.copies += self._copies(memory_passes, cross + ".k_proj", cross + ".v_proj")
            passes = True
        self._feed_forward(part, name, rows, self.shape.decoder_ffn, passes)
        if memory_passes:  # gradients of k, v, of their input, and of the encoder's output
            part.working += frames * width * (2 * item + 2 * RESIDUAL)
        elif frames and moves:
            part.working += frames * width * 2 * item
        part.entry = RESIDUAL * width * rows if part.kept else 0
        return part

    def encoder_working(self) -> int:
        """Return the bytes of an encoder pass without gradients, its result not included.

        Two layer norms' widths in float32, the cast, and both inner arrays of the feed-forward
        part; a CPU takes some utterances at a time (`whisper.SLICE`).
        """
        frames = self.frames
        if self.device == "cpu":
            at_once = max(1, SLICE_POSITIONS // max(self.batch.positions, 1))
            frames = min(frames, at_once * self.batch.positions)
        inner = 2 * self.item * self.shape.encoder_ffn
        cast = self.item * self.width if self.half else 0
        return frames * (2 * RESIDUAL * self.width + cast + inner)
