# shellcheck shell=bash
# Where the recipe's jobs run. ESPnet's wheel brings no run.pl or slurm.pl, so the two back ends stand here.
#
#   local   on this machine (the default)
#   slurm   each training, decoding or merging job through srun: it takes a place in the queue, its output streams here,
#           and the stage fails if it fails. Start the recipe where it may stay for days (tmux, or sbatch of run.sh).
#
# Set them here or in the environment: cmd_backend=slurm slurm_options="--partition=a100 --time=48:00:00" ./run.sh

cmd_backend=${cmd_backend:-local}
slurm_options=${slurm_options:-"--cpus-per-task=8 --mem=64G --time=24:00:00"}  # every job's
slurm_gpu_options=${slurm_gpu_options:-"--gres=gpu:%N"}                         # a GPU job's as well; %N is how many

# run_job GPUS LOG command...: run the command by the back end; its output is shown and appended to LOG.
run_job() {
    local gpus=$1 log=$2 options
    shift 2
    mkdir -p "$(dirname "$log")"
    case $cmd_backend in
        local) "$@" 2>&1 | tee -a "$log" ;;
        slurm)
            options=$slurm_options
            [ "$gpus" -eq 0 ] || options="$options ${slurm_gpu_options//%N/$gpus}"
            # shellcheck disable=SC2086  # a list of options
            srun --ntasks=1 --job-name="$(basename "$log" .log)" --unbuffered $options "$@" 2>&1 | tee -a "$log"
            ;;
        *)
            echo "cmd.sh: error: cmd_backend is local or slurm, not '$cmd_backend'" >&2
            return 2
            ;;
    esac
}
