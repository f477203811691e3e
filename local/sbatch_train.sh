#!/usr/bin/env bash
# One training of the recipe as a Slurm job that survives preemption and time limits. From the top of the checkout:
#
#   sbatch local/sbatch_train.sh local/train_align.sh --ngpu 8
#   sbatch --nodes=2 --partition=a100 local/sbatch_train.sh local/train_full.sh --ngpu 8 --num_nodes 2
#
# Five minutes before the time limit Slurm sends SIGUSR1 to each process (before a preemption SIGTERM): the training
# writes a checkpoint and exits with 75, and the job goes back into the queue. It then goes on from that checkpoint.
# What one node gives a job stands below: let --ntasks-per-node and --gres agree with --ngpu.
#SBATCH --job-name=asyncswitch
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=8
#SBATCH --gres=gpu:8
#SBATCH --cpus-per-task=8
#SBATCH --mem=0
#SBATCH --time=24:00:00
#SBATCH --signal=USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail
cd "$SLURM_SUBMIT_DIR" || exit 2
if [ $# -eq 0 ]; then
    echo "sbatch_train.sh: error: which training? e.g. sbatch local/sbatch_train.sh local/train_align.sh --ngpu 8" >&2
    exit 2
fi
# The training is a step of this job, and takes what the job has.
# Since Slurm 22.05 a step has one CPU for each task unless it is told: too few for a GPU's data loaders.
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
export cmd_backend=slurm slurm_options="${slurm_options-}" slurm_gpu_options="${slurm_gpu_options-}"
status=0
"$@" || status=$?
if [ $status -eq 75 ]; then
    echo "sbatch_train.sh: stopped with a checkpoint; job $SLURM_JOB_ID goes back into the queue"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit $status
