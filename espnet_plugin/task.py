"""ESPnet's ASR task for AsyncSwitch: options, data and optimiser of an adaptation stage."""

import argparse
import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from espnet2.iterators.abs_iter_factory import AbsIterFactory
from espnet2.tasks import abs_task
from espnet2.tasks.asr import ASRTask
from espnet2.train.collate_fn import CommonCollateFn
from espnet2.train.dataset import AbsDataset
from espnet2.utils import config_argparse
from espnet2.utils.nested_dict_action import NestedDictAction
from espnet2.utils.types import str2bool
from torch.multiprocessing.spawn import ProcessExitedException

import espnet_plugin
from espnet_plugin import augment, distributed, lora, pair_batches
from espnet_plugin.config_parser import Parser
from espnet_plugin.finish import KEEPS, finish, summary
from espnet_plugin.freeze import FreezeSchedule, check_options
from espnet_plugin.groups import GROUPS
from espnet_plugin.iterators import TextIterFactory
from espnet_plugin.model import AsyncSwitchModel
from espnet_plugin.monitor import faults
from espnet_plugin.monitor import options as watching
from espnet_plugin.optim import build_optimizer
from espnet_plugin.pads import PADS, parse_pad
from espnet_plugin.preprocess import PairPreprocessor
from espnet_plugin.prompt import PromptBuilder, parse_lang_tokens
from espnet_plugin.stages import STAGES, get_stage
from espnet_plugin.text_store import TextStore
from espnet_plugin.trainer import AsyncSwitchTrainer
from espnet_plugin.training import criteria, failing, machine, stopping, valid_wer

espnet_plugin.register()  # spawned processes import this module, and need the classes too


class AsyncSwitchTask(ASRTask):
    """Trains one adaptation stage; what it moves is read from `stages.STAGES`."""

    trainer = AsyncSwitchTrainer

    @classmethod
    def get_parser(cls) -> config_argparse.ArgumentParser:
        """Return ESPnet's parser with the options of the adaptation stages."""
        parser = super().get_parser()
        parser.__class__ = Parser
        parser.allow_abbrev = False
        group = parser.add_argument_group("AsyncSwitch")
        stages = ", ".join(STAGES)
        add = group.add_argument
        add("--adaptation_stage", help=f"What moves, on what data: {stages}")
        add("--init_dir", help="Model directory that training starts from")
        add("--train_data", help="Data directory with paired speech (dump/raw/SET)")
        add("--valid_data", help="Likewise, for validation")
        add("--train_text", help="Token store of unpaired text (stage 6)")
        add("--valid_text", help="Likewise, for validation")
        add("--pad", default="batch", help="batch (masked), 30s or batch:0.8,30s:0.2")
        add("--valid_pad", help="batch or 30s, in validation; default: --pad, or its larger share")
        add("--memory", default="zero", help="Stage 1: zero (exact) or skip (approximate)")
        add("--label_smoothing", type=float, default=0.0, help="0..1, in training only")
        add("--autocast", default="auto", help="auto, bfloat16 or none")
        add("--loss_kernel", default="auto", help="auto, chunked, liger or cce (fused, GPUs)")
        add("--compile", type=str2bool, default=False, help="Layers through torch.compile")
        add("--checkpointing", default="none", help="Layers run again: none, encoder, decoder, all")
        add("--lora", help="Ranks of adapters by group: 'cross_attn=8, output=full'")
        add("--lang_tokens", default="cs:ms ms:ms en:en", help="Data language:Whisper language")
        add("--text_style", default="as_is", help="as_is or spoken (normalised)")
        add("--timestamp_share", type=float, default=0.0, help="Share trained with timestamps")
        add("--group_lr", action=NestedDictAction, default={}, help="Rates by group")
        add("--group_weight_decay", action=NestedDictAction, default={}, help="Decays by group")
        add("--shard_optimizer", type=str2bool, default=False, help="Its state over GPUs (ZeRO)")
        add("--valid_wer_utts", type=int, default=0, help="Decoded after each epoch: valid wer")
        add("--keep", default="best", choices=KEEPS, help="Which checkpoint becomes the system")
        add("--checkpoint_seconds", type=float, default=0.0, help="Least time between checkpoints")
        add("--keep_checkpoints", type=str2bool, default=True, help="Keep ESPnet's checkpoints")
        watching.add_options(add)
        parser.set_defaults(
            required=["output_dir", "adaptation_stage", "init_dir"],
            model="asyncswitch_whisper",
            encoder="asyncswitch_whisper",
            decoder="asyncswitch_whisper",
            normalize=None,
            frontend=None,
            specaug=None,
            input_size=1,
            token_type="hugging_face",
            optim="adamw",
            scheduler="freeze",
            num_att_plot=0,
            use_matplotlib=False,
            use_tensorboard=False,
            keep_nbest_models=1,
            resume=True,
            early_stopping_criterion=["valid", "loss", "min"],
            best_model_criterion=[["valid", "loss", "min"]],
        )
        return parser

    @classmethod
    def main(cls, args: argparse.Namespace | None = None, cmd: Sequence[str] | None = None) -> None:
        """Train, then write the model directory and the proof beside ESPnet's files.

        Raises:
            ValueError: If options contradict each other; FileNotFoundError if data are missing.
        """
        if args is None:
            args = cls.get_parser().parse_args(cmd)
        if not args.print_config:
            cls.check_required_command_args(args)
            distributed.resolve(args)
            cls.prepare(args)
        children = args.multiprocessing_distributed
        with machine.told(args.output_dir), stopping.listen(to_children=children):
            try:
                super().main(args=args)
            except ProcessExitedException as error:
                if error.exit_code == stopping.EXIT_AGAIN:
                    raise stopping.Stopped from None
                if error.exit_code in (1, failing.TOLD):  # the process has said why
                    raise SystemExit(error.exit_code) from None
                raise
        if args.dry_run or args.collect_stats:
            return
        # the others wait until the system is complete
        with machine.told(args.output_dir), distributed.parting():
            if distributed.writes(args):
                finish(
                    args.output_dir,
                    args.init_dir,
                    args.adaptation_stage,
                    set(cls.moved_groups(args)),
                    args.keep,
                    args.keep_checkpoints,
                    lora.parse(args.lora),
                    tuple(args.best_model_criterion[0]),
                )
                print(summary(args.output_dir), flush=True)

    @classmethod
    def main_worker(cls, args: argparse.Namespace) -> None:
        """Do the work of one process, which a signal stops between two updates.

        If it fails, the others of its run end too.
        """
        spawned = args.multiprocessing_distributed and args.local_rank is not None
        told, together = failing.told(spawned), failing.end_together()
        with stopping.listen(), told, together, machine.told(args.output_dir):
            super().main_worker(args)

    @classmethod
    def moved_groups(cls, args: argparse.Namespace) -> tuple[str, ...]:
        """Return the groups that move at any time of the run, whole or by adapters."""
        return tuple(lora.parse(args.lora)) or get_stage(args.adaptation_stage).trains

    @classmethod
    def prepare(cls, args: argparse.Namespace) -> None:
        """Fill in what follows from the stage: data, schedule, model options.

        Raises:
            ValueError: If an option is missing, surplus or contradicts another.
            FileNotFoundError: If a directory is missing; says which recipe stage makes it.
        """
        stage = get_stage(args.adaptation_stage)
        watching.check(args)
        if args.use_amp:
            raise ValueError("--use_amp: --autocast decides; bfloat16 needs no scaling of the loss")
        if args.use_deepspeed:
            raise ValueError("DeepSpeed would discard the freeze schedule: use torch DDP")
        lora.check_stage(lora.parse(args.lora), stage.name, stage.trains)
        if args.lora and args.keep == "average":
            raise ValueError(
                "--keep average does not go with --lora: the average of adapters is not that of "
                "the models; use best or last"
            )
        best = args.keep_nbest_models
        if args.keep == "average" and max([best] if isinstance(best, int) else best, default=1) < 2:
            raise ValueError(
                f"--keep average needs --keep_nbest_models of 2 or more epochs, got {best}"
            )
        if args.freeze_param:
            raise ValueError(f"--freeze_param: the stage decides; '{stage.name}' trains a set")
        wanted = [args.early_stopping_criterion, *args.best_model_criterion]
        criteria.check(wanted, parse_lang_tokens(args.lang_tokens))
        valid_wer.check(args.valid_wer_utts, stage.data, wanted)
        builder = _builder(args)
        with_text = stage.data == "text"
        sources = ("train_text", "valid_text") if with_text else ("train_data", "valid_data")
        for name in ("train_text", "valid_text", "train_data", "valid_data"):
            given = getattr(args, name)
            if (given is None) == (name in sources):
                verb = "needs" if name in sources else "does not take"
                raise ValueError(f"stage {stage.name} ({stage.data} data) {verb} --{name}")
        if with_text:
            args.iterator_type = "task"
            for path in (args.train_text, args.valid_text):
                store = TextStore(path)
                store.check(builder)
                if distributed.checks_data(args):
                    store.verify()  # seconds at 38 M lines: better now than a wrong token in hours
        else:
            args.iterator_type = "sequence"
            for kind, path in (("train", args.train_data), ("valid", args.valid_data)):
                files, shape = _data_files(Path(path))
                setattr(args, f"{kind}_data_path_and_name_and_type", files)
                setattr(args, f"{kind}_shape_file", [shape])
        augment.check(args, with_text)
        mixture = parse_pad(args.pad)
        if args.valid_pad not in (None, *PADS):
            raise ValueError(f"valid_pad is one of {', '.join(PADS)}, got '{args.valid_pad}'")
        args.model_conf = {
            "pad": args.valid_pad or mixture.main,  # training batches say their own
            "memory": args.memory,
            "label_smoothing": args.label_smoothing,
            "autocast": args.autocast,
            "lang_tokens": args.lang_tokens,
            "text_style": args.text_style,
            "loss_kernel": args.loss_kernel,
            "compile": args.compile,
            "checkpointing": args.checkpointing,
            "lora": args.lora,
            "model_dir": str(args.init_dir),
        }
        tokens = Path(args.init_dir) / "tokens.txt"
        args.token_list = tokens.read_text(encoding="utf-8").splitlines()
        args.bpemodel = str(args.init_dir)
        args.scheduler_conf = cls.complete_schedule(args)
        gradual = args.scheduler_conf.get("kind") == "gradual"
        if gradual and not args.unused_parameters:
            # Groups that wait for their turn have no gradients; DDP must be told.
            logging.info("a gradual schedule: --unused_parameters true")
            args.unused_parameters = True

    @classmethod
    def complete_schedule(cls, args: argparse.Namespace) -> dict[str, Any]:
        """Return the freeze schedule's options with the stage's groups and the run's length.

        Raises:
            ValueError: If the configuration lists groups that the stage does not train.
        """
        if args.scheduler != "freeze":
            raise ValueError(f"--scheduler is freeze (it wraps another), got '{args.scheduler}'")
        for option in ("accum_grad", "max_epoch", "batch_bins", "batch_size", "valid_batch_bins"):
            if (value := getattr(args, option)) is not None and value < 1:
                raise ValueError(f"--{option} is 1 or more, got {value}")
        if not args.grad_clip > 0:  # the gradient would be reversed, or gone
            raise ValueError(f"--grad_clip is above 0 (inf: no clipping), got {args.grad_clip}")
        if (length := args.num_iters_per_epoch) is not None and length % args.accum_grad:
            raise ValueError(
                f"--num_iters_per_epoch {length} is no multiple of --accum_grad {args.accum_grad}: "
                "the batches beyond would be lost at each epoch's end"
            )
        stage, conf = get_stage(args.adaptation_stage), dict(args.scheduler_conf)
        check_options(FreezeSchedule, conf, "scheduler_conf")
        if conf.get("kind", "staged") == "staged":
            if "trainable" in conf:
                raise ValueError("scheduler_conf: the groups come from --adaptation_stage")
            conf["trainable"] = list(cls.moved_groups(args))
        else:
            named = {s.split(".")[0] for join in conf.get("joins", []) for s in join["groups"]}
            if extra := sorted((named & set(GROUPS)) - set(stage.trains)):
                raise ValueError(f"scheduler_conf: stage {stage.name} does not train {extra[0]}")
            if args.lora and (extra := sorted(named - set(cls.moved_groups(args)))):
                raise ValueError(
                    f"scheduler_conf: {extra[0]} joins and lora does not name it; add its rank, or "
                    f"{extra[0]}={lora.FULL}"
                )
        if conf.get("inner") == "warmuplinear":
            inner = dict(conf.get("inner_conf") or {})
            if "total_steps" not in inner:
                if args.num_iters_per_epoch is None:
                    raise ValueError(
                        "warmuplinear needs inner_conf total_steps, or --num_iters_per_epoch"
                    )
                inner["total_steps"] = args.max_epoch * args.num_iters_per_epoch // args.accum_grad
            conf["inner_conf"] = inner
        return conf

    @classmethod
    def build_model(cls, args: argparse.Namespace) -> AsyncSwitchModel:
        """Build the model from the start directory."""
        specaug = augment.build_specaug(args.specaug, args.specaug_conf)
        return AsyncSwitchModel(
            token_list=list(args.token_list), specaug=specaug, **args.model_conf
        )

    @classmethod
    def build_optimizers(
        cls, args: argparse.Namespace, model: torch.nn.Module
    ) -> list[torch.optim.Optimizer]:
        """Build the optimiser with one parameter group per group of the method."""
        optim_class = abs_task.optim_classes[args.optim]
        moving = cls.moved_groups(args) if distributed.shards(args) else None
        return [
            build_optimizer(
                model, optim_class, args.optim_conf, args.group_lr, args.group_weight_decay, moving
            )
        ]

    @classmethod
    def build_preprocess_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        """Return what turns an utterance into a training example."""
        if not train:
            return PairPreprocessor(_builder(args))
        options = augment.read_options(args)
        changes = augment.Augmentation(options, args.seed) if options else None
        return PairPreprocessor(_builder(args), args.timestamp_share, changes)

    @classmethod
    def build_collate_fn(cls, args: argparse.Namespace, train: bool) -> Any:
        """Return what makes a batch: text is padded with -1; an utterance has one language."""
        return faults.TolerantCollate(
            CommonCollateFn(float_pad_value=0.0, int_pad_value=-1, not_sequence=["lang"])
        )

    @classmethod
    def build_dataset(
        cls, args: argparse.Namespace, iter_options: Any, keys_to_load: Any = None
    ) -> AbsDataset:
        """Build ESPnet's dataset; an utterance that cannot be read becomes a `Fault`."""
        lengths = faults.read_lengths(iter_options.shape_files[0], keys_to_load)
        checked = faults.LengthCheck(iter_options.preprocess_fn, lengths)
        options = dataclasses.replace(iter_options, preprocess_fn=checked)
        return faults.TolerantDataset(super().build_dataset(args, options, keys_to_load))

    @classmethod
    def required_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Name the data that an utterance must have."""
        return ("speech",) if inference else ("speech", "text", "lang")

    @classmethod
    def optional_data_names(cls, train: bool = True, inference: bool = False) -> tuple[str, ...]:
        """Name the data that an utterance may have."""
        return ()

    @classmethod
    def build_sequence_iter_factory(
        cls, args: argparse.Namespace, iter_options: Any, mode: str
    ) -> AbsIterFactory:
        """Build the batches of paired speech; in training, padded as `--pad` says."""
        mixture = parse_pad(args.pad if mode == "train" else args.model_conf["pad"])
        return pair_batches.build(args, iter_options, mixture, cls.build_dataset)

    @classmethod
    def build_task_iter_factory(
        cls, args: argparse.Namespace, iter_options: Any, mode: str
    ) -> AbsIterFactory:
        """Build the batches of unpaired text; validation is every line, on every rank its part."""
        train = mode == "train"
        rank, world = 0, 1
        if iter_options.distributed:
            rank = torch.distributed.get_rank()
            world = torch.distributed.get_world_size()
        bins = args.batch_bins if train else (args.valid_batch_bins or args.batch_bins)
        return TextIterFactory(
            TextStore(args.train_text if train else args.valid_text),
            _builder(args),
            batch_bins=bins,
            seed=args.seed,
            num_iters_per_epoch=args.num_iters_per_epoch if train else None,
            shuffle=train,
            rank=rank,
            world_size=world,
        )


def _builder(args: argparse.Namespace) -> PromptBuilder:
    return PromptBuilder(args.init_dir, parse_lang_tokens(args.lang_tokens), args.text_style)


def _data_files(directory: Path) -> tuple[list[tuple[str, str, str]], str]:
    """Return ESPnet's data triples of a formatted data directory, and its shape file."""
    files = {"wav.scp": ("speech", "sound"), "text": ("text", "text"), "utt2lang": ("lang", "text")}
    for name in (*files, "utt2num_samples"):
        if not (directory / name).is_file():
            raise FileNotFoundError(
                f"{directory / name} is missing: recipe stage 3 (format) makes it"
            )
    triples = [(str(directory / name), *kind) for name, kind in files.items()]
    return triples, str(directory / "utt2num_samples")
