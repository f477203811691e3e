#!/usr/bin/env bash
# Build the environment in .venv; a no-op when nothing changed since the last time. `make env` runs it.
#
#   local/setup_env.sh            # Python 3.12 or 3.13, the package with its extras, espeak-ng, sclite
#   PYTHON=/opt/python3.13/bin/python3 local/setup_env.sh     # with this Python
#
# It looks for the system programs first: they are quick, and the Python packages are 6 GB.
set -euo pipefail
cd "$(cd -P "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"

extras=train,text,ct2,demo,test
venv=.venv
stamp=$venv/.asyncswitch_env
sctk_dirs=${SCTK_DIRS-/usr/lib/sctk/bin /usr/local/sctk/bin /opt/sctk/bin}  # Debian's is the first, off the PATH

say() { echo "env: $*"; }

fail() {
    printf 'env: error: %s\n' "$1" >&2
    exit 1
}

# Does this program run, and is it Python 3.12 or 3.13 with venv? pyenv's shims exist and still fail, so run it.
is_python() {
    "$1" -c 'import sys, venv, ensurepip; raise SystemExit(not (3, 12) <= sys.version_info < (3, 14))' \
        >/dev/null 2>&1 </dev/null
}

# Print the first Python that will do: $PYTHON, the PATH, pyenv's versions, uv's.
find_python() {
    local candidate pyenv_root
    if [ -n "${PYTHON:-}" ]; then
        is_python "$PYTHON" || fail "PYTHON=$PYTHON does not run as Python 3.12 or 3.13 with its venv module"
        command -v "$PYTHON"
        return
    fi
    pyenv_root=${PYENV_ROOT:-$HOME/.pyenv}
    for candidate in python3.13 python3.12 python3 python \
        "$pyenv_root"/versions/3.13*/bin/python3 "$pyenv_root"/versions/3.12*/bin/python3; do
        if is_python "$candidate"; then
            command -v "$candidate"
            return
        fi
    done
    if command -v uv >/dev/null; then
        for candidate in 3.13 3.12; do
            candidate=$(uv python find "$candidate" 2>/dev/null) || continue
            if is_python "$candidate"; then
                echo "$candidate"
                return
            fi
        done
    fi
    fail "no Python 3.12 or 3.13 with its venv module was found (ESPnet 202611 needs one). Get it by one of
  Debian, Ubuntu:  sudo apt-get install python3.12 python3.12-venv   (or 3.13, whichever your release has)
  Mac:             brew install python@3.13
  pyenv:           pyenv install 3.13
  uv:              uv python install 3.13
or name one:       make env PYTHON=/path/to/python3.12"
}

# Print where sclite is, or nothing.
find_sclite() {
    local dir
    command -v sclite && return
    for dir in $sctk_dirs; do
        if [ -x "$dir/sclite" ]; then
            echo "$dir/sclite"
            return
        fi
    done
}

missing_packages() {
    command -v espeak-ng >/dev/null || echo espeak-ng
    [ -n "$(find_sclite)" ] || echo sctk
}

# Install espeak-ng and sclite where they are missing and this user may.
system_programs() {
    local packages as_root=""
    packages=$(missing_packages | tr '\n' ' ')
    [ -n "$packages" ] || return 0
    if command -v apt-get >/dev/null; then
        if [ "$(id -u)" -ne 0 ]; then
            as_root="sudo -n"
            sudo -n true >/dev/null 2>&1 || as_root=none
        fi
        if [ "$as_root" != none ]; then
            say "installing $packages(apt-get)"
            # shellcheck disable=SC2086  # word lists
            if $as_root apt-get update -qq </dev/null &&
                $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq $packages </dev/null; then
                packages=$(missing_packages | tr '\n' ' ')
                [ -n "$packages" ] || return 0
            fi
        fi
    fi
    fail "missing system programs: $packages(espeak-ng speaks the demo corpus; sctk brings sclite, the scorer)
  Debian, Ubuntu:  sudo apt-get update && sudo apt-get install -y $packages
  Mac:             brew install espeak-ng
                   git clone https://github.com/usnistgov/SCTK && cd SCTK && make config && make all && make install
                   and put SCTK/bin on the PATH
then run make env again"
}

# What decides whether the environment is up to date.
fingerprint() {
    cat setup.py constraints.txt | cksum
    echo "extras $extras"
    pwd -P  # an environment does not survive being moved
}

python_packages() {
    local python quiet=--quiet
    if [ -x $venv/bin/python ] && [ -f $stamp ] && [ "$(fingerprint)" = "$(cat $stamp)" ] &&
        is_python $venv/bin/python; then
        say "$venv is up to date"
        return
    fi
    if ! { [ -x $venv/bin/python ] && is_python $venv/bin/python; }; then
        python=$(find_python)
        say "creating $venv with $python"
        "$python" -m venv --clear $venv
    fi
    say "installing the packages into $venv: minutes, about 6 GB (on Linux torch brings CUDA; it runs on a CPU too)"
    [ ! -t 1 ] || quiet=--progress-bar=on
    # The interpreter runs pip as a module: a checkout's path with a space breaks the scripts' first lines.
    $venv/bin/python -m pip install --disable-pip-version-check "$quiet" --no-input \
        -c constraints.txt -e ".[$extras]" </dev/null ||
        fail "pip could not install the packages (its message stands above); nothing else was changed"
    fingerprint >$stamp.part
    mv $stamp.part $stamp
    say "done: $($venv/bin/python --version), $venv"
}

system_programs
python_packages
