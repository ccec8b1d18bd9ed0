#!/usr/bin/env bash
# The checks of this project, in an environment that is found or made as in run_cv.sh.
#
#   bash run_tests.sh                  ruff, mypy and the fast tests, whose files share the cores
#   bash run_tests.sh --all            the slow tests too
#   bash run_tests.sh tests/test_x.py  pytest alone, with any arguments of its own; --all may come first
set -euo pipefail
root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)

tier="not slow"
if [[ ${1:-} == --all ]]; then
    tier=""
    shift
fi

source "$root/scripts/environment.sh"
find_environment dev
cd "$root"
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}"
if [[ $# == 0 ]]; then
    "$python" -m ruff check .
    "$python" -m ruff format --check .
    "$python" -m mypy
    # A training in a test has one thread, so that two files take two cores; more would wait for memory and disk.
    cores=$(env -u OMP_NUM_THREADS nproc)
    set -- -n "$((cores < 4 ? cores : 4))" --dist loadfile
fi
exec "$python" -m pytest -m "$tier" "$@"
