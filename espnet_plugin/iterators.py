"""Batches of unpaired text for ESPnet's trainer (`--iterator_type task`)."""

from collections.abc import Iterator

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_store import TextStore, batches_of_pass


class TextIterFactory(AbsIterFactory):
    """Builds each epoch's batches from a token store.

    What an epoch holds is a function of (seed, epoch, rank) alone, so that a run resumed at an
    epoch sees what the uninterrupted run saw. Every rank gets the same number of batches.
    """

    def __init__(
        self,
        store: TextStore,
        builder: PromptBuilder,
        batch_bins: int,
        seed: int = 0,
        num_iters_per_epoch: int | None = None,
        shuffle: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Prepare; the store is read when batches are.

        Args:
            store: Tokens and languages of each line.
            builder: Puts the prompt before, and the end after, each line.
            batch_bins: Largest number of positions in a batch, prompt, end and padding included.
            seed: Of the order.
            num_iters_per_epoch: Batches of an epoch and rank; None makes an epoch one pass.
            shuffle: False gives the lines by length (for validation).
            rank: Of this process.
            world_size: Number of processes.

        Raises:
            ValueError: If store and builder do not fit, or there are fewer batches than ranks.
        """
        store.check(builder)
        self.store, self.seed, self.shuffle = store, seed, shuffle
        self.batch_bins, self.rank, self.world_size = batch_bins, rank, world_size
        self.num_iters_per_epoch = num_iters_per_epoch
        self.end = builder.end
        self.prompts = [np.asarray(builder.prompt(lang), np.int64) for lang in store.langs]
        self.extra = len(self.prompts[0]) + 1
        self.lengths = np.diff(store.offsets) + self.extra
        self._passes: dict[int, list[np.ndarray]] = {}
        if len(self._pass(0)) < world_size:
            raise ValueError(
                f"{store.path}: {len(self._pass(0))} batches of {batch_bins} positions for "
                f"{world_size} processes: lower --batch_bins"
            )

    def _pass(self, number: int) -> list[np.ndarray]:
        """Return this rank's batches of one pass over the corpus; two passes are kept."""
        if number not in self._passes:
            batches = batches_of_pass(
                self.lengths, self.batch_bins, self.seed, number, self.shuffle
            )
            if self.shuffle:  # ranks stay in step; a different remainder is left out each pass
                batches = batches[: len(batches) // self.world_size * self.world_size]
            for old in [n for n in self._passes if n < number - 1]:
                del self._passes[old]
            self._passes[number] = batches[self.rank :: self.world_size]
        return self._passes[number]

    def lines_of_epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the line numbers `(batch,)` of each batch of an epoch (from 1)."""
        if self.num_iters_per_epoch is None:
            yield from self._pass(epoch - 1 if self.shuffle else 0)
            return
        # The passes are laid end to end and cut into epochs; their sizes differ a little.
        number, position = 0, (epoch - 1) * self.num_iters_per_epoch
        while position >= len(self._pass(number)):
            position -= len(self._pass(number))
            number += 1
        for _ in range(self.num_iters_per_epoch):
            if position == len(self._pass(number)):
                number, position = number + 1, 0
            yield self._pass(number)[position]
            position += 1

    def collate(self, lines: np.ndarray) -> tuple[list[str], dict[str, torch.Tensor]]:
        """Read lines into `text` `(batch, tokens)` long, padded with -1, and `text_lengths`."""
        lengths = self.lengths[lines]
        text = np.full((len(lines), int(lengths.max())), -1, dtype=np.int64)
        for row, (line, length) in enumerate(zip(lines, lengths, strict=True)):
            prompt = self.prompts[self.store.codes[line]]
            low, high = self.store.offsets[line], self.store.offsets[line + 1]
            text[row, : len(prompt)] = prompt
            text[row, len(prompt) : length - 1] = self.store.tokens[low:high]
            text[row, length - 1] = self.end
        batch = {"text": torch.from_numpy(text), "text_lengths": torch.from_numpy(lengths)}
        return [f"line{line}" for line in lines], batch

    def build_iter(  # type: ignore[override]
        self, epoch: int, shuffle: bool | None = None
    ) -> "_Epoch":
        """Return the batches of an epoch (from 1), as ESPnet's trainer wants them."""
        return _Epoch(self, epoch)


class _Epoch:
    """One epoch's batches, with their number where it is known beforehand."""

    def __init__(self, factory: TextIterFactory, epoch: int) -> None:
        self.factory, self.epoch = factory, epoch

    def __len__(self) -> int:
        fixed = self.factory.num_iters_per_epoch
        return fixed if fixed is not None else len(list(self.factory.lines_of_epoch(self.epoch)))

    def __iter__(self) -> Iterator[tuple[list[str], dict[str, torch.Tensor]]]:
        for lines in self.factory.lines_of_epoch(self.epoch):
            yield self.factory.collate(lines)
