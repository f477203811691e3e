"""Batches of unpaired text for ESPnet's trainer (`--iterator_type task`)."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory

from espnet_plugin.prompt import PromptBuilder
from espnet_plugin.text_store import TextBatches, TextStore

WINDOW = 1 << 19  # positions that are read from the store together; bounds the memory


class BatchLines(Sequence[str]):
    """The utterance ids of a batch of text, `line0`, `line1`, ..., made when they are asked for.

    ESPnet's trainer hands them to the model as `utt_id`.

    Attributes:
        lines: `(batch,)` int64, numbers of the lines in their store.
        lang: The language of all of them; None where a batch may mix languages (training).
    """

    def __init__(self, lines: np.ndarray, lang: str | None) -> None:
        self.lines, self.lang = lines, lang

    def __len__(self) -> int:
        return len(self.lines)

    def __getitem__(self, index: Any) -> Any:
        """Return one id, or the list of a slice's."""
        if isinstance(index, slice):
            return [f"line{line}" for line in self.lines[index]]
        return f"line{self.lines[index]}"


class TextIterFactory(AbsIterFactory):
    """Builds each epoch's batches from a token store.

    What an epoch holds is a function of (seed, epoch) alone and is found by arithmetic, so that a
    run resumed at an epoch sees what the uninterrupted run saw, and pays nothing for the epochs
    before. In training, passes over the corpus lie end to end, each line comes once a pass, and
    ranks share the lines of every batch, as ESPnet does with pairs: a step sees the same lines on
    any number of ranks. In validation each line comes once an epoch, in batches of one language
    (`BatchLines.lang` names it) that ranks take in turns. Every rank gets equally many batches.
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
        """Prepare; lines are read when batches are.

        Args:
            store: Tokens and languages of each line.
            builder: Puts the prompt before, and the end after, each line.
            batch_bins: Largest number of positions in a batch, prompt, end and padding included.
            seed: Of the order.
            num_iters_per_epoch: Batches of an epoch and rank; None makes an epoch one pass (where
                ranks do not share a pass evenly, epochs differ by one batch).
            shuffle: False is for validation: the same batches in each epoch, of one language each.
            rank: Of this process.
            world_size: Number of processes.

        Raises:
            ValueError: If store and builder do not fit, a batch does not hold a line for each
                rank, or there are too few lines to validate on each rank.
        """
        store.check(builder)
        self.store, self.shuffle, self.batch_bins = store, shuffle, batch_bins
        self.rank, self.world_size = rank, world_size
        self.num_iters_per_epoch = num_iters_per_epoch
        self.end = builder.end
        present = [code for code, n in enumerate(store.by_length.sum(axis=(0, 2))) if n]
        prompts = {
            code: builder.prompt(store.langs[code])
            for code in present
            if builder.lang_code(store.langs[code], str(store.path))
        }
        self.prompts = np.zeros((len(store.langs), len(prompts[present[0]])), np.int64)
        for code, prompt in prompts.items():
            self.prompts[code] = prompt
        self.batches = TextBatches(
            store,
            extra=self.prompts.shape[1] + 1,
            budget=batch_bins,
            seed=seed,
            shuffle=shuffle,
            by_lang=not shuffle,
            multiple=1 if shuffle else world_size,
            least=world_size if shuffle else 1,
        )

    @property
    def passes(self) -> dict[str, int]:
        """Batches of a pass over the corpus."""
        return {"text": self.batches.per_pass}

    def steps(self, epoch: int) -> range:
        """Return the numbers of an epoch's steps (epochs from 1)."""
        each = self.num_iters_per_epoch
        if each is None:
            each = self.batches.per_pass // (1 if self.shuffle else self.world_size)
        return range((epoch - 1) * each, epoch * each)

    def windows_of_epoch(
        self, epoch: int, done: int = 0
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield this rank's batches, some at a time, as `TextBatches.lines` gives them."""
        steps = self.steps(epoch)[done:]
        world, rank = self.world_size, self.rank
        together = max(1, min(WINDOW * world // self.batch_bins, self.batches.per_pass))
        for low in range(steps.start, steps.stop, together):
            window = np.arange(low, min(low + together, steps.stop))
            if self.shuffle:
                yield self.batches.lines(window, rank, world)
            else:
                yield self.batches.lines(window * world + rank)

    def lines_of_epoch(self, epoch: int) -> Iterator[np.ndarray]:
        """Yield the line numbers `(batch,)` of each batch of an epoch (from 1)."""
        for lines, sizes in self.windows_of_epoch(epoch):
            yield from np.split(lines, np.cumsum(sizes)[:-1])

    def batches_of_epoch(
        self, epoch: int, done: int = 0
    ) -> Iterator[tuple[BatchLines, dict[str, torch.Tensor]]]:
        """Yield the batches of an epoch (from 1): ids, `text` and `text_lengths`.

        `text` is `(batch, tokens)` long, prompt, text, end, padded with -1. The first `done`
        batches are left out.
        """
        for lines, sizes in self.windows_of_epoch(epoch, done):
            tokens, lengths, codes = self.store.gather(lines)
            at = token = 0
            for size in sizes.tolist():
                part = slice(at, at + size)
                used = int(lengths[part].sum())
                batch = self.collate(tokens[token : token + used], lengths[part], codes[part])
                lang = None if self.shuffle else self.store.langs[codes[at]]
                yield BatchLines(lines[part], lang), batch
                at, token = at + size, token + used

    def collate(
        self, tokens: np.ndarray, lengths: np.ndarray, codes: np.ndarray
    ) -> dict[str, torch.Tensor]:
        """Put lines, as `TextStore.gather` gives them, into a padded batch."""
        before, longest = self.prompts.shape[1], int(lengths.max())
        text = np.full((len(lengths), before + longest + 1), -1, np.int64)
        text[:, :before] = self.prompts[codes]
        if int(lengths.min()) == longest:
            text[:, before:-1] = tokens.reshape(len(lengths), longest)
        else:
            text[:, before:-1][np.arange(longest) < lengths[:, None]] = tokens
        text[np.arange(len(lengths)), before + lengths] = self.end
        return {
            "text": torch.from_numpy(text),
            "text_lengths": torch.from_numpy(lengths + before + 1),
        }

    def build_iter(  # type: ignore[override]
        self, epoch: int, shuffle: bool | None = None
    ) -> "_Epoch":
        """Return the batches of an epoch (from 1), as ESPnet's trainer wants them."""
        return _Epoch(self, epoch if self.shuffle else 1)


class _Epoch:
    """One epoch's batches, with their number."""

    def __init__(self, factory: TextIterFactory, epoch: int, done: int = 0) -> None:
        self.factory, self.epoch, self.done = factory, epoch, done

    def after(self, done: int) -> "_Epoch":
        """Return those that are left when some are done, for a run that is resumed."""
        return _Epoch(self.factory, self.epoch, done)

    def __len__(self) -> int:
        return len(self.factory.steps(self.epoch)) - self.done

    def __iter__(self) -> Iterator[tuple[BatchLines, dict[str, torch.Tensor]]]:
        return self.factory.batches_of_epoch(self.epoch, self.done)
