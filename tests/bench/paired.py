"""Stages 2 and 3 on paired speech against transformers' Seq2SeqTrainer, on this machine.

python -m tests.bench.paired                          # the demo's audio and weights, where they are
python -m tests.bench.paired --updates 2 --stages adapt_align
python -m tests.bench.paired --data dump/raw/train_paired --model exp/whisper_base --pad 30s

Both train the same groups from the same weights on the same utterances, as many a batch, in
float32 (on most CPUs bfloat16 is slower), with fused AdamW and clipping.

    transformers   Seq2SeqTrainer with its defaults: shuffled batches, 30 s of audio each. Its
                   features are computed before the clock starts, as in its guide
    ours           the trainer's step on its own batches (of similar length, `--pad batch`), the
                   reading of audio and the features included

Before the first stage both compute the loss of the same utterances, ours with each padding: with
`30s` they have to be equal. Seq2SeqTrainer needs `accelerate`, which peft (extra `train`) brings.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench.running import give_out, start_with_malloc
from tests.bench.stage1 import machine

RECIPE = Path(__file__).parents[2] / "egs2_asyncswitch" / "asr1"
STAGES = ("adapt_align", "adapt_full")
IGNORED = -100  # what transformers' loss does not count
PROMPT = 3  # labels of language, task and no-timestamps, which ours does not count


def find_inputs(args: argparse.Namespace, folder: Path) -> tuple[Path, Path, str]:
    """Return model, data and a word on them: the demo's, or random ones of the same size."""
    model = Path(args.model or RECIPE / "exp" / "whisper_base")
    data = Path(args.data or RECIPE / "dump" / "raw" / "train_paired")
    words = "the given or the demo's weights and audio"
    if not args.model and not (model / "config.json").is_file():
        from tests.fixtures.tiny_whisper import build_tiny_whisper

        sizes = {"d_model": 512, "layers": 6, "heads": 8, "ffn": 2048}
        model = build_tiny_whisper(folder / "model", **sizes)
        words = "random weights of Whisper base's size"
    if not args.data and not (data / "wav.scp").is_file():
        from tests.fixtures.pairs import write_pairs

        data = write_pairs(folder / "data", 255, seconds=5.5)
        words += ", noise of the demo's length for speech"
    return model, data, words


def choose(data: Path, number: int, folder: Path) -> Path:
    """Write a data directory with some utterances, from the shortest to the longest."""
    lines = (data / "utt2num_samples").read_text(encoding="utf-8").splitlines()
    utts = sorted((line.split()[0] for line in lines), key=dict(map(_length, lines)).__getitem__)
    places = (np.arange(number) + 0.5) * len(utts) / number
    chosen = {utts[int(place)] for place in places}
    if len(chosen) < number:
        raise ValueError(f"{data} has {len(utts)} utterances, {number} are asked for")
    folder.mkdir()
    for name in ("wav.scp", "text", "utt2lang", "utt2num_samples"):
        rows = (data / name).read_text(encoding="utf-8").splitlines()
        kept = "".join(f"{row}\n" for row in rows if row.split(None, 1)[0] in chosen)
        (folder / name).write_text(kept, encoding="utf-8")
    return folder


def _length(line: str) -> tuple[str, int]:
    utt, samples = line.split()
    return utt, int(samples)


class Ours:
    """Model, optimiser and batches, as `AsyncSwitchTask` builds them."""

    def __init__(self, model_dir: Path, data: Path, stage: str, args: argparse.Namespace) -> None:
        import torch
        from espnet2.train.collate_fn import CommonCollateFn
        from espnet2.train.dataset import ESPnetDataset

        from espnet_plugin.freeze import FreezeSchedule
        from espnet_plugin.model import AsyncSwitchModel
        from espnet_plugin.optim import build_optimizer
        from espnet_plugin.pads import parse_pad
        from espnet_plugin.pair_batches import PairIterFactory, make_plan
        from espnet_plugin.preprocess import PairPreprocessor
        from espnet_plugin.stages import STAGES

        self.model = AsyncSwitchModel(model_dir, autocast="none", pad=args.pad).train()
        self.optimizer = build_optimizer(self.model, torch.optim.AdamW, {"lr": args.lr})
        schedule = FreezeSchedule(self.optimizer, trainable=list(STAGES[stage].trains))
        schedule.begin_epoch(1)
        self.moving = [p for p in self.model.parameters() if p.requires_grad]
        self.preprocess = PairPreprocessor(self.model.prompt)
        files = {"wav.scp": ("speech", "sound"), "text": ("text", "text")}
        files |= {"utt2lang": ("lang", "text")}
        self.dataset = ESPnetDataset(
            [(str(data / name), *kind) for name, kind in files.items()], preprocess=self.preprocess
        )
        mixture = parse_pad(args.pad)
        options = {"batch_size": args.batch_size}
        plans = {
            pad: make_plan(data / "utt2num_samples", pad, "sorted", 0, options)
            for pad in mixture.pads
        }
        collate = CommonCollateFn(float_pad_value=0.0, int_pad_value=-1, not_sequence=["lang"])
        self.factory = PairIterFactory(self.dataset, self.preprocess, plans, mixture, collate)

    def step(self, batch: dict[str, Any]) -> float:
        """Train on a batch; return its loss."""
        import torch

        loss, _, _ = self.model(**batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.moving, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def loss(self, pad: str) -> float:
        """Return the loss of all utterances, without training."""
        import torch

        total = count = 0.0
        with torch.no_grad():
            for _, batch in self.factory.build_iter(1):
                loss, _, weight = self.model(**batch | {"pad": pad})
                total, count = total + float(loss * weight), count + float(weight)
        return total / count

    def run(self, warm_up: int) -> tuple[float, list[float]]:
        """Train a pass; return its seconds and losses. The first batches are run before it too."""
        for number, (_, batch) in enumerate(self.factory.build_iter(1)):
            if number < warm_up:
                self.step(batch)
        start = time.perf_counter()
        losses = [self.step(batch) for _, batch in self.factory.build_iter(1)]
        return time.perf_counter() - start, losses


class Theirs:
    """transformers' model, and a trainer with its defaults."""

    def __init__(self, model_dir: Path, ours: Ours, stage: str, args: argparse.Namespace) -> None:
        from transformers import WhisperFeatureExtractor, WhisperForConditionalGeneration

        from espnet_plugin.groups import group_of, is_fixed
        from espnet_plugin.stages import STAGES

        self.args = args
        self.model = WhisperForConditionalGeneration.from_pretrained(model_dir)
        for name, parameter in self.model.named_parameters():
            moves = group_of(name) in STAGES[stage].trains and not is_fixed(name)
            parameter.requires_grad_(moves)
        extractor = WhisperFeatureExtractor(feature_size=self.model.config.num_mel_bins)
        self.examples = []
        for utt in sorted(u for _, _, utts in ours.factory.batches_of_epoch(1) for u in utts):
            data = ours.dataset[utt][1]
            found = extractor(data["speech"], sampling_rate=16_000, return_tensors="np")
            example = {"input_features": found.input_features[0], "labels": data["text"]}
            self.examples.append(example)

    @staticmethod
    def collate(examples: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        rows = [torch.from_numpy(example["labels"]) for example in examples]
        text = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-1)
        labels = text[:, 1:].masked_fill(text[:, 1:] < 0, IGNORED)
        labels[:, :PROMPT] = IGNORED
        features = np.stack([example["input_features"] for example in examples])
        return {
            "input_features": torch.from_numpy(features),
            "decoder_input_ids": text[:, :-1].clamp(min=0),
            "labels": labels,
        }

    def loss(self) -> float:
        """Return the loss of all utterances, without training."""
        import torch

        total, count, size = 0.0, 0, self.args.batch_size
        with torch.no_grad():
            for low in range(0, len(self.examples), size):
                batch = self.collate(self.examples[low : low + size])
                number = int((batch["labels"] != IGNORED).sum())
                total += float(self.model(**batch).loss) * number
                count += number
        return total / count

    def run(self, warm_up: int) -> tuple[float, list[float]]:
        """Train a pass after some updates more; return its seconds and losses."""
        from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments, TrainerCallback

        ends: list[float] = []

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, *_: Any, **__: Any) -> None:
                ends.append(time.perf_counter())

        updates = len(self.examples) // self.args.batch_size
        with tempfile.TemporaryDirectory() as folder:
            arguments = Seq2SeqTrainingArguments(
                output_dir=folder,
                per_device_train_batch_size=self.args.batch_size,
                learning_rate=self.args.lr,
                max_steps=updates + warm_up,
                use_cpu=True,
                report_to="none",
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
            )
            trainer = Seq2SeqTrainer(
                model=self.model,
                args=arguments,
                train_dataset=self.examples,
                data_collator=self.collate,
                callbacks=[Clock()],
            )
            trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return ends[-1] - ends[warm_up - 1], losses[warm_up:]


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Train both, stage by stage; return all figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data, words = find_inputs(args, folder)
        chosen = choose(data, args.updates * args.batch_size, folder / "chosen")
        samples = [_length(x)[1] for x in (chosen / "utt2num_samples").read_text().splitlines()]
        found: dict[str, Any] = {
            "machine": machine("cpu"),
            "inputs": words,
            "utterances": len(samples),
            "batch_size": args.batch_size,
            "mean_seconds": float(np.mean(samples)) / 16_000,
            "pad": args.pad,
            "stages": {},
        }
        before: dict[str, float] = {}
        for stage in args.stages:
            ours = Ours(model, chosen, stage, args)
            theirs = Theirs(model, ours, stage, args)
            if not before:  # both stages start from the same weights
                before = {
                    "loss_transformers": theirs.loss(),
                    "loss_30s": ours.loss("30s"),
                    "loss_batch": ours.loss("batch"),
                }
            figures: dict[str, Any] = dict(before)
            for side, system in (("transformers", theirs), ("ours", ours)):
                print(f"{stage}: {side} ...", file=sys.stderr, flush=True)
                seconds, losses = system.run(args.warm_up)  # type: ignore[attr-defined]
                figures[side] = {
                    "seconds": seconds,
                    "utterances_per_second": len(samples) / seconds,
                    "first_loss": losses[0],
                    "mean_loss": float(np.mean(losses)),
                }
            found["stages"][stage] = figures
            del ours, theirs, system
    return found


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a Markdown table and what belongs to it."""
    about = found["machine"]
    yield (
        f"{about['cpu']}, {about['threads']} threads, torch {about['torch']}; Whisper base, "
        f"float32, {found['inputs']}: {found['utterances']} utterances of "
        f"{found['mean_seconds']:.1f} s on average, {found['batch_size']} a batch, "
        f"ours padded by `{found['pad']}`"
    )
    yield ""
    yield "| stage | system | utterances/s | times | loss before | mean training loss |"
    yield "| --- | --- | ---: | ---: | ---: | ---: |"
    for stage, figures in found["stages"].items():
        base = figures["transformers"]["utterances_per_second"]
        before = {
            "transformers": f"{figures['loss_transformers']:.4f}",
            "ours": f"30s: {figures['loss_30s']:.4f}, batch: {figures['loss_batch']:.4f}",
        }
        for side in before:
            speed = figures[side]["utterances_per_second"]
            yield (
                f"| {stage} | {side} | {speed:.2f} | {speed / base:.2f} | {before[side]} | "
                f"{figures[side]['mean_loss']:.4f} |"
            )


def main(argv: list[str] | None = None) -> dict[str, Any]:
    """Parse the options, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="Whisper directory; default: the demo's, or random")
    parser.add_argument("--data", help="formatted data directory; default: the demo's, or noise")
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--updates", type=int, default=6, help="that are measured")
    parser.add_argument("--warm_up", type=int, default=1, help="updates before")
    parser.add_argument("--batch_size", type=int, default=8, help="utterances of an update")
    parser.add_argument("--pad", default="batch", help="as in training")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--json", help="write the figures there as well")
    args = parser.parse_args(argv)
    found = measure(args)
    return give_out(found, table(found), args.json)


if __name__ == "__main__":
    start_with_malloc("tests.bench.paired")
    main()
