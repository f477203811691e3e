"""Which process of a distributed run is this one: torchrun, Slurm, ESPnet's launcher, or alone.

ESPnet asks for the launcher by options, and its own reading of Slurm's variables wants one task a
node. Here a job step of Slurm with several tasks, and a process of torchrun, are recognised by
their environment: each of their processes is a rank. ESPnet's options, where given, go first.
"""

import argparse
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import Any

import torch
from espnet2.train.distributed_utils import get_node_rank

PORTS = range(20_000, 60_000)


def resolve(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> None:
    """Fill in ESPnet's options of distributed training from the environment.

    Args:
        args: Parsed options; changed in place. With several processes from outside, `ngpu` becomes
            the number of this process: 1, or 0 on the CPU.
        environ: Environment variables.

    Raises:
        ValueError: If Slurm's tasks do not fit the number of GPUs, torch sees fewer GPUs than are
            asked for, or fairscale is asked for.
    """
    if args.sharded_ddp:
        raise ValueError(
            "--sharded_ddp needs fairscale, which is no longer kept: --shard_optimizer"
        )
    given = args.dist_rank is not None or args.dist_world_size is not None
    if not given and int(environ.get("SLURM_NTASKS", "1")) > 1 and "SLURM_STEP_NODELIST" in environ:
        _from_slurm(args, environ)
    elif not given and {"RANK", "LOCAL_RANK", "WORLD_SIZE"} <= set(environ):
        args.dist_rank, args.dist_world_size = int(environ["RANK"]), int(environ["WORLD_SIZE"])
        args.local_rank = int(environ["LOCAL_RANK"])
        args.ngpu, args.multiprocessing_distributed = min(args.ngpu, 1), False
    elif not given and args.ngpu > 1 and args.local_rank is None:
        args.multiprocessing_distributed = True  # threads of one process would do without us
    if args.ngpu == 0 and args.dist_backend == "nccl":
        args.dist_backend = "gloo"  # what there is on a CPU
    _check_gpus(args)
    # ESPnet would ask for INFO: hundreds of lines from each process, around the few that count.
    os.environ.setdefault("NCCL_DEBUG", "WARN")


def _check_gpus(args: argparse.Namespace) -> None:
    # CUDA's own error comes after the model is read, from each process, and is "invalid device".
    needed = args.ngpu if args.multiprocessing_distributed else (args.local_rank or 0) + 1
    if args.ngpu and (found := torch.cuda.device_count()) < needed:
        hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
        seen = "" if hidden is None else f", with CUDA_VISIBLE_DEVICES={hidden}"
        raise ValueError(
            f"{needed} GPU(s) are needed here and torch {torch.__version__} sees {found}{seen} "
            "(nvidia-smi lists what the driver has): --ngpu is the number of GPUs of a node, and "
            "--ngpu 0 trains on the CPU"
        )


def _from_slurm(args: argparse.Namespace, environ: Mapping[str, str]) -> None:
    tasks, nodes = int(environ["SLURM_NTASKS"]), int(environ["SLURM_STEP_NUM_NODES"])
    args.dist_launcher = None  # what it would find out is found out here
    if args.ngpu > 1 and tasks == nodes:  # a task a node: each starts its GPUs' processes itself
        args.dist_rank, args.dist_world_size = int(environ["SLURM_NODEID"]), nodes
        args.multiprocessing_distributed = True
    elif args.ngpu > 0 and tasks != nodes * args.ngpu:
        raise ValueError(
            f"srun started {tasks} tasks on {nodes} node(s) for --ngpu {args.ngpu} a node: a task "
            f"for each GPU is --ntasks-per-node={args.ngpu}"
        )
    else:
        args.dist_rank, args.dist_world_size = int(environ["SLURM_PROCID"]), tasks
        args.multiprocessing_distributed = False
        if args.ngpu:
            # A task may see its own GPU alone, or all of the node's.
            visible = environ.get("CUDA_VISIBLE_DEVICES", "")
            alone = visible and "," not in visible
            args.ngpu, args.local_rank = 1, 0 if alone else int(environ["SLURM_LOCALID"])
    if args.dist_master_addr is None:
        one = nodes == 1
        args.dist_master_addr = "localhost" if one else first_host(environ["SLURM_STEP_NODELIST"])
    if args.dist_master_port is None:
        job, step = int(environ["SLURM_JOB_ID"]), int(environ.get("SLURM_STEP_ID", "0"))
        args.dist_master_port = PORTS[(job * 97 + step) % len(PORTS)]
    logging.info("started by srun: process %s of %s", args.dist_rank, args.dist_world_size)


def first_host(nodes: str) -> str:
    """Return the first host of Slurm's list of nodes, such as `gpu-[03-05,9],login`."""
    match = re.match(r"([^\[,]+)(?:\[(\d+)[^\]]*\]([^,]*))?", nodes)
    if match is None:
        raise ValueError(f"'{nodes}' is not a list of nodes")
    return "".join(part or "" for part in match.groups())


def checks_data(args: argparse.Namespace, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether this process verifies what all of them read: one a node does.

    Args:
        args: As `resolve` left them. The parent of processes that ESPnet starts is the one that
            asks; the others come from outside, and wait for it where they meet.
        environ: Environment variables.
    """
    if args.multiprocessing_distributed and args.ngpu > 1:
        return True
    rank = args.dist_rank if args.local_rank is None else args.local_rank
    return not rank and environ.get("SLURM_LOCALID", "0") == "0"  # each may see one GPU, its 0th


def shards(args: argparse.Namespace) -> bool:
    """Tell whether the optimiser's state is spread; says so where there is nobody to share with."""
    several = _together() and torch.distributed.get_world_size() > 1
    if args.shard_optimizer and not several:
        logging.info("--shard_optimizer: one process keeps all of the optimiser's state")
    return bool(args.shard_optimizer and several)


def writes(args: argparse.Namespace) -> bool:
    """Tell whether this process writes the finished system: rank 0, or what started rank 0."""
    if args.multiprocessing_distributed and args.ngpu > 1:  # its processes have ended
        return not get_node_rank(args.dist_rank, args.dist_launcher)
    return not _together() or torch.distributed.get_rank() == 0


@contextmanager
def parting() -> Iterator[None]:
    """Wait for all processes before and after; then the next run in this process meets anew.

    Those who wait go on too if the body raises an error in one of them.
    """
    if _together():
        torch.distributed.barrier()
    try:
        yield
    finally:
        if _together():
            torch.distributed.barrier()
            torch.distributed.destroy_process_group()


def gather(value: Any, group: Any = None) -> list[Any]:
    """Return every process's value, by rank; all of them call it. Slow: for rare events.

    Args:
        value: A Python object.
        group: Of processes; None is all.
    """
    if not _together():
        return [value]
    values: list[Any] = [None] * torch.distributed.get_world_size(group)
    torch.distributed.all_gather_object(values, value, group=group)
    return values


def from_first(value: Any) -> Any:
    """Return the first process's value on all; all of them call it. Slow: for rare events."""
    if not _together():
        return value
    values = [value]
    torch.distributed.broadcast_object_list(values, 0)
    return values[0]


def check_even(batches: Sized, what: str) -> None:
    """Check that all processes have equally many batches, before the first.

    ESPnet stops all of them with the first that has no batch left, and drops the others' rest.

    Args:
        batches: This process's.
        what: Of what, for the message.

    Raises:
        ValueError: If they differ, in every process; says how many each has.
    """
    counts = gather(len(batches))
    if len(set(counts)) > 1:
        raise ValueError(f"{what}: the processes have unequal numbers of batches, {counts}")


def _together() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
