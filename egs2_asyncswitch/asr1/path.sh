# shellcheck shell=bash
# The environment of the recipe's scripts, which source this file: the checkout, Python, sclite, threads, encodings.

root=$(cd -P "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# --python, else the checkout's .venv, else the active environment's.
if [ -z "${python:-}" ]; then
    if [ -x "$root/.venv/bin/python" ]; then
        python=$root/.venv/bin/python
    else
        python=$(command -v python3 || echo python3)
    fi
fi

export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
export PYTHONUNBUFFERED=1
export PYTHONIOENCODING=UTF-8
export LC_ALL=C  # the order that Kaldi's files are sorted in
if [ -z "${OMP_NUM_THREADS:-}" ]; then
    # nproc counts what this process may use, which in a container or a job is less than what there is
    OMP_NUM_THREADS=$(nproc 2>/dev/null || getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)
    export OMP_NUM_THREADS
    # shellcheck disable=SC2034  # cmd.sh asks for it
    threads_of_here=true
fi
export TOKENIZERS_PARALLELISM=false  # the tokenizers' threads do not survive the forks of data loaders
# Large tensors are made and dropped in every step. By default glibc hands each back to the system, and the next one's
# pages are mapped and cleared anew: a tenth to a sixth of a training step on two cores.
export MALLOC_MMAP_MAX_="${MALLOC_MMAP_MAX_:-0}" MALLOC_TRIM_THRESHOLD_="${MALLOC_TRIM_THRESHOLD_:-17179869184}"

# Debian puts sclite off the PATH.
if ! command -v sclite >/dev/null; then
    for dir in ${SCTK_DIRS-/usr/lib/sctk/bin /usr/local/sctk/bin /opt/sctk/bin}; do
        if [ -x "$dir/sclite" ]; then PATH=$dir:$PATH; fi
    done
    unset dir
fi
