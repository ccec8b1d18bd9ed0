#!/usr/bin/env bash
# From a competition's raw file to a checked submission: finds or makes the environment (scripts/environment.sh),
# then runs `podium run COMPETITION OPTIONS...` with every argument as it was given, in the folder it was called from.
#
#   PODIUM_VENV     a virtual environment to make and use instead of .venv beside this script
#   PODIUM_PYTHON   the Python to make it with
#   PODIUM_ROOT     the folder that holds configs/ and data/ and receives the results, instead of this script's
set -euo pipefail
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)
export PODIUM_ROOT=${PODIUM_ROOT:-$root}

usage() {
    local file names=""
    for file in "$PODIUM_ROOT"/configs/competitions/*.yaml; do
        [[ -f $file ]] && names+=" $(basename "$file" .yaml)"
    done
    echo "usage: bash run_cv.sh COMPETITION [OPTIONS of 'podium run', e.g. --budget 30m --folds 0 --data DIR --dry-run]"
    echo "competitions in configs/competitions:${names:- none}"
}

case ${1:-} in
    "") usage >&2; exit 2 ;;
    -h | --help) usage; exit 0 ;;
esac

source "$root/scripts/environment.sh"
find_environment run
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
# -P: a file in the user's folder must not stand in for a module of the same name.
exec "$python" -P -m podium run "$@"
