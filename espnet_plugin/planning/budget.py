"""The memory of a training step: what is there always, and the moment at which it peaks.

A step is followed through its parts: forward, loss, backward from the last part to the first,
update. Activations go as gradients come, so the peak is less than the sum of everything.

Always there, per device (float32 weights; autocast keeps its own copies): parameters 4 bytes each;
AdamW's two moments 8 bytes for each that moves (frozen ones have no gradient and so no state),
with `adamw8bit` 2 and two scales for each block of 256;
gradients 4 bytes for each that moves, from the backward pass to the update; all the time where
several batches make one update, and under DDP, whose buckets stay: with ESPnet's default
`gradient_as_bucket_view: true` the gradients lie in them, with false they take another 4 bytes.
"""

import heapq
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from espnet_plugin.planning.activations import Batch, Counter, Segment
from espnet_plugin.planning.machine import Machine
from espnet_plugin.planning.shapes import Shape, parameters
from espnet_plugin.planning.workspace import Loss, audio_bytes, feature_bytes, loss_bytes

SHARDINGS = ("none", "zero1", "fsdp")
LEAST_8BIT, BLOCK_8BIT = 4096, 256  # elements; bitsandbytes'
TABLE = "decoder.embed_tokens.weight"


@dataclass(frozen=True)
class Setup:
    """How a stage is run.

    Attributes:
        half: bfloat16 autocast, else float32.
        sharding: `none` (DDP where there are several devices), `zero1` (each device holds a part
            of the optimiser's state) or `fsdp` (of parameters and gradients too).
        checkpointing: Layers keep their input alone and are run again in the backward pass.
        eight_bit: Adam's moments have 8 bits (`optim8bit.py`).
        accumulate: Several batches make an update.
        bucket_view: ESPnet's `gradient_as_bucket_view`.
    """

    half: bool = True
    sharding: str = "none"
    checkpointing: bool = False
    eight_bit: bool = False
    accumulate: bool = False
    bucket_view: bool = True


@dataclass(frozen=True)
class Budget:
    """Bytes on one device at the moment of the peak, `context` and fragments not included.

    Attributes:
        moment: When it is: `loss`, `backward of decoder.layers.3`, `update`, ...
        parameters: Weights.
        optimiser: The optimiser's state.
        gradients: Those that exist at that moment.
        buckets: DDP's.
        activations: What the backward pass still needs.
        copies: bfloat16 copies of weights.
        working: Everything else: the loss's logits, gradients of activations, audio, features.
        all_gradients: Gradients at the end of the backward pass.
        all_activations: Activations at the end of the forward pass.
        all_copies: Copies of weights then.
        loss: The loss's own need, its logits and gradients.
    """

    moment: str
    parameters: int
    optimiser: int
    gradients: int
    buckets: int
    activations: int
    copies: int
    working: int
    all_gradients: int
    all_activations: int
    all_copies: int
    loss: int

    @property
    def peak(self) -> int:
        """Bytes in all."""
        return (
            self.parameters
            + self.optimiser
            + self.gradients
            + self.buckets
            + self.activations
            + self.copies
            + self.working
        )


def state_bytes(sizes: Mapping[str, int], names: Iterable[str], eight_bit: bool) -> int:
    """Return the bytes of Adam's moments of some parameters."""
    total = 0
    for name in names:
        size = sizes[name]
        large = eight_bit and size >= LEAST_8BIT and name != TABLE
        total += 2 * size + 8 * -(-size // BLOCK_8BIT) if large else 8 * size
    return total


def dealt(sizes: Mapping[str, int], names: frozenset[str], world: int) -> list[list[str]]:
    """Deal whole tensors out to devices, as `sharding.ShardedOptimizer` does.

    The largest first, each to the device that has least.
    """
    parts: list[list[str]] = [[] for _ in range(world)]
    loads = [(0, rank) for rank in range(world)]
    for name in sorted(names, key=lambda one: (-sizes[one], one)):
        load, rank = loads[0]
        parts[rank].append(name)
        heapq.heapreplace(loads, (load + sizes[name], rank))
    return parts


class _Step:
    """One step's parts, and the peak found so far."""

    def __init__(
        self, shape: Shape, moving: frozenset[str], batch: Batch, machine: Machine, setup: Setup
    ) -> None:
        if setup.sharding not in SHARDINGS:
            raise ValueError(f"sharding is {', '.join(SHARDINGS)}, got '{setup.sharding}'")
        self.sizes = parameters(shape)
        self.moving, self.setup, self.machine = moving, setup, machine
        counter = Counter(shape, self.sizes, moving, batch, setup.half, machine.kind)
        self.parts = counter.segments()
        positions = batch.size * batch.positions
        self.audio = audio_bytes(positions, shape.mels)
        self.features = feature_bytes(positions)
        self.encoder = 0 if counter.encoder_moves else counter.encoder_working()
        self.memory = 4 * shape.width * positions
        # What cross-attention reads, where it is not among the activations: under autocast a copy,
        # beside the encoder's output until the decoder has run.
        keeps, copy = counter.keeps_memory(), self.memory // 2 if setup.half else 0
        self.read = 0 if keeps else copy or self.memory
        self.encoded = self.read + (self.memory if setup.half else 0)
        self.loss = loss_bytes(
            shape,
            batch.size * batch.tokens,
            machine.kind,
            machine.gigabytes * 1e9,
            setup.half,
            TABLE in moving,
        )
        self._fixed()

    def _fixed(self) -> None:
        """Count what is there always."""
        world, sizes = self.machine.world, self.sizes
        moved = sum(sizes[name] for name in self.moving)
        shards = world if self.setup.sharding == "fsdp" else 1
        self.moved = {name: -(-4 * sizes[name] // shards) for name in self.moving}
        self.weights, self.buckets = 4 * sum(sizes.values()), 0
        self.state = state_bytes(sizes, self.moving, self.setup.eight_bit)
        self.gathered = 0
        if self.setup.sharding == "fsdp":
            self.weights, self.state = -(-self.weights // world), -(-self.state // world)
            item = 2 if self.setup.half else 4
            layers = [sum(sizes[n] for n in p.names) for p in self.parts if p.layer]
            root = sum(sizes[n] for p in self.parts if not p.layer for n in p.names)
            # The root's parameters stay whole; two layers are whole at a time (one is fetched
            # ahead), and one's gradient before it is dealt out.
            self.gathered = item * (root + 2 * max(layers)) + 4 * (root + max(layers))
            return
        if self.setup.sharding == "zero1":
            parts = dealt(sizes, self.moving, world)
            self.state = max(state_bytes(sizes, part, self.setup.eight_bit) for part in parts)
        if world > 1 and not self.setup.bucket_view:
            self.buckets = 4 * moved

    def _updating(self) -> int:
        """Return the bytes that the optimiser itself needs: fused AdamW and GPUs' kernels none.

        On a CPU bitsandbytes updates the embedding, whose moments have 32 bits, by plain
        products of whole tensors, three of which exist together.
        """
        if self.setup.eight_bit and self.machine.kind == "cpu" and TABLE in self.moving:
            return 3 * 4 * self.sizes[TABLE]
        return 0

    def _gradient(self, part: Segment) -> int:
        return sum(self.moved.get(name, 0) for name in part.names)

    def _held(self, part: Segment) -> tuple[int, int]:
        """Return the bytes of activations and copies that a part holds until its backward pass."""
        # FSDP's own bfloat16 policy casts what it gathers; nothing is kept beside it.
        copies = 0 if self.setup.sharding == "fsdp" else part.copies
        if self.setup.checkpointing and part.layer:
            return part.entry, 0
        return part.kept, copies

    def budget(self) -> Budget:
        """Follow the step and return its peak."""
        loss: Loss = self.loss
        held = [self._held(part) for part in self.parts]
        kept, copies = sum(k for k, _ in held), sum(c for _, c in held)
        every = sum(self._gradient(part) for part in self.parts)
        distributed = self.machine.world > 1 and self.setup.sharding != "fsdp"
        before = every if self.setup.accumulate or distributed else 0
        # (moment, gradients, activations, copies, working)
        moments = [
            ("features", before, 0, 0, self.audio + self.features),
            ("encoder without gradients", before, 0, 0, self.audio + self.memory + self.encoder),
            ("end of the decoder", before, kept, copies, self.audio + self.encoded),
        ]
        # Checkpointed layers run again on what they read.
        inputs = self.audio + (self.read if self.setup.checkpointing else 0)
        working = inputs + loss.working + loss.kept + loss.table
        moments.append(("loss", before, kept, copies, working))
        after = inputs + loss.kept
        done = 0
        early = loss.table  # the embedding's gradient comes with the loss, long before its turn
        for part, (own_kept, own_copies) in zip(reversed(self.parts), reversed(held), strict=True):
            done += self._gradient(part)
            made = max(before, done)
            if part.name == "embedding" and not before:
                early = 0  # counted with the others from here on
            again = part.kept + part.copies if self.setup.checkpointing and part.layer else 0
            working = after + part.working + again + early
            moments.append((f"backward of {part.name}", made, kept, copies, working))
            kept, copies = kept - own_kept, copies - own_copies
            if part.name == "embedding":
                early = 0
        moments.append(("update", every, 0, 0, self._updating()))
        return self._at_peak(moments, every, sum(k for k, _ in held), sum(c for _, c in held))

    def _at_peak(
        self,
        moments: list[tuple[str, int, int, int, int]],
        every: int,
        kept: int,
        copies: int,
    ) -> Budget:
        moment, gradients, activations, casts, working = max(moments, key=lambda m: sum(m[1:]))
        return Budget(
            moment=moment,
            parameters=self.weights,
            optimiser=self.state,
            gradients=gradients,
            buckets=self.buckets,
            activations=activations,
            copies=casts,
            working=working + self.gathered,
            all_gradients=every,
            all_activations=kept,
            all_copies=copies,
            loss=self.loss.working + self.loss.kept + self.loss.table,
        )


def budget(
    shape: Shape, moving: frozenset[str], batch: Batch, machine: Machine, setup: Setup
) -> Budget:
    """Find the peak of a training step.

    Args:
        shape: Of the model.
        moving: Names of the parameters that are trained, as `groups.select` returns them.
        batch: The batch on one device.
        machine: The devices.
        setup: How it is run.

    Raises:
        ValueError: If the sharding is unknown.
    """
    return _Step(shape, moving, batch, machine, setup).budget()
