# shellcheck shell=bash
# Where the recipe's jobs run. ESPnet's wheel brings no run.pl or slurm.pl, so the back ends stand here.
#
#   local   on this machine (the default); a training with --ngpu 4 is four processes
#   slurm   each training, decoding or merging job through srun: it takes a place in the queue, its output streams here,
#           and the stage fails if it fails. A training is one task for each GPU of --num_nodes nodes. Start the recipe
#           where it may stay for days (tmux), or one training through sbatch: local/sbatch_train.sh, which can be requeued.
#   ssh     a training on all of cmd_hosts, through ESPnet's launcher (espnet2.bin.launch); other jobs on this machine.
#           The hosts need the same paths, and ssh without a password.
#
# Set them here or in the environment: cmd_backend=slurm slurm_options="--partition=a100 --time=48:00:00" ./run.sh

cmd_backend=${cmd_backend:-local}
# Every job's. In a training, CPUs are for each GPU, memory is for each node. Empty takes Slurm's defaults.
slurm_options=${slurm_options-"--cpus-per-task=8 --mem=64G --time=24:00:00"}
slurm_gpu_options=${slurm_gpu_options-"--gres=gpu:%N"}  # a GPU job's as well; %N is how many, on each node
cmd_hosts=${cmd_hosts:-}                                # for ssh: host1,host2 with --ngpu GPUs each
cmd_port=${cmd_port:-29400}                             # for ssh: a free port of the first host

# run_job GPUS LOG command...: run the command by the back end; its output is shown and appended to LOG.
run_job() {
    case $cmd_backend in
        local | ssh) run_here "${@:2}" ;;
        slurm) run_srun "$1" "$2" --ntasks=1 -- "${@:3}" ;;
        *)
            echo "cmd.sh: error: cmd_backend is local, slurm or ssh, not '$cmd_backend'" >&2
            return 2
            ;;
    esac
}

# run_training GPUS LOG command...: the same for a training, which may take several nodes (num_nodes).
run_training() {
    local gpus=$1 log=$2 nodes=${num_nodes:-1} words=() tasks=1
    case $cmd_backend in
        slurm)
            [ "$gpus" -eq 0 ] || tasks=$gpus
            # A rank that ends leaves the others a minute to end too. At once would be too soon: all exit with 75 after a
            # signal, and one that is killed meanwhile hides that code.
            run_srun "$gpus" "$log" --nodes="$nodes" --ntasks-per-node="$tasks" --kill-on-bad-exit=0 --wait=60 -- "${@:3}"
            ;;
        ssh)
            if [ -z "$cmd_hosts" ]; then
                echo "cmd.sh: error: cmd_backend=ssh needs cmd_hosts, e.g. cmd_hosts=node1,node2" >&2
                return 2
            fi
            # the launcher sends words to a shell of each host
            while [ $# -gt 2 ]; do words+=("$(printf %q "$3")"); set -- "$1" "$2" "${@:4}"; done
            # shellcheck disable=SC2154  # path.sh sets python
            run_here "$log" "$python" -m espnet2.bin.launch --host "$cmd_hosts" --ngpu "$gpus" --master_port "$cmd_port" \
                --envfile path.sh --log - -- "${words[@]}"
            ;;
        *)
            if [ "$nodes" -ne 1 ]; then
                echo "cmd.sh: error: --num_nodes $nodes needs cmd_backend=slurm, or ssh with cmd_hosts" >&2
                return 2
            fi
            run_job "$@"
            ;;
    esac
}

# run_here LOG command...: signals that this shell gets meanwhile go to the command, whose exit code is returned. A
# training answers SIGTERM and SIGUSR1 with a checkpoint and 75 (run it again). Alone, the shell would leave it behind.
run_here() {
    local log=$1 job copy status again=true
    mkdir -p "$(dirname "$log")"
    set -m  # a process group of its own, where Ctrl-C is not ignored
    "${@:2}" 2>&1 | tee -ai "$log" &
    set +m
    copy=$! job=$(jobs -p %+)
    # shellcheck disable=SC2064  # the job's number is to be that of now
    {
        trap "again=true; kill -s TERM $job" TERM
        trap "again=true; kill -s USR1 $job" USR1
        trap "again=true; kill -s INT -- -$job" INT
    }
    while $again; do
        again=false status=0
        wait "$job" || status=$?  # a signal ends the waiting as well
    done
    wait "$copy" || true
    trap - TERM USR1 INT
    return $status
}

# run_srun GPUS LOG option... -- command...: ours go first, so that slurm_options may say otherwise.
run_srun() {
    local gpus=$1 log=$2 ours=() environment=() options=$slurm_options
    shift 2
    while [ "$1" != -- ]; do ours+=("$1"); shift; done
    shift
    [ "$gpus" -eq 0 ] || options="$options ${slurm_gpu_options//%N/$gpus}"
    # the threads of this computer are not those of the job, which counts its own
    if ${threads_of_here:-false}; then environment=(env -u OMP_NUM_THREADS); fi
    # shellcheck disable=SC2086  # a list of options
    run_here "$log" ${environment[@]+"${environment[@]}"} srun --job-name="$(basename "$log" .log)" --unbuffered "${ours[@]}" $options "$@"
}
