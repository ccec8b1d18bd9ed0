# Sourced by run_cv.sh and run_tests.sh, which set $root to the checkout. `find_environment run|dev` sets $python to the
# interpreter to use; "dev" asks for the tools of the tests as well. In this order:
#
#   1. $PODIUM_VENV where set: made if need be, nothing else is looked at
#   2. the active environment ($VIRTUAL_ENV, $CONDA_PREFIX) if it satisfies pyproject's ranges; it is never changed
#   3. in a hosted notebook its own Python; packages it lacks are installed into it, torch and the like are left alone
#   4. .venv in the checkout (podium-venv in /tmp where a notebook's checkout is read-only), when its stamp says that it holds what requirements.txt pins
#   5. the python3 on PATH if it satisfies the ranges
#   6. .venv is made
#
# The stamp is one line in <environment>/podium.stamp, written last; "installing" in its place marks an unfinished one.
# Messages go to stderr, since stdout may be somebody's JSON.

oldest=3.11 newest=3.14 # for which the pins have wheels; the same in pyproject.toml

say() { printf 'podium: %s\n' "$*" >&2; }

fail() {
    say "$*"
    exit 2
}

# Prints "3.12" for the interpreter $1, or nothing where it does not run.
version_of() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true; }

in_range() {
    local minor=${1#3.}
    [[ $1 == 3.* && $minor -ge ${oldest#3.} && $minor -le ${newest#3.} ]]
}

hosted() {
    [[ -n ${KAGGLE_KERNEL_RUN_TYPE:-}${COLAB_RELEASE_TAG:-}${COLAB_GPU:-} || -w ${PODIUM_KAGGLE_ROOT:-/kaggle}/working ]]
}

# Succeeds where the interpreter $1 satisfies pyproject's ranges; else prints, as half a sentence, why not.
suits() {
    local version
    version=$(version_of "$1")
    if in_range "$version"; then
        "$1" "$root/scripts/environment.py" check "$need"
    else
        echo "is Python ${version:-that does not run}"
        return 1
    fi
}

# The stamp of a finished environment. An explicit $PODIUM_VENV may serve several checkouts, .venv belongs to one.
stamp_of() {
    local hash owner=$root
    if [[ -n ${PODIUM_VENV:-} ]]; then owner=anyone; fi
    hash=$(sha256sum <"$root/requirements.txt")
    echo "requirements ${hash%% *} python $(version_of "$1/bin/python") for $owner"
}

is_ready() { [[ -x $1/bin/python && -f $1/podium.stamp && $(<"$1/podium.stamp") == "$(stamp_of "$1")" ]]; }

find_environment() {
    local venv=${PODIUM_VENV:-$root/.venv} active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}} own="" why status
    need=$1
    # What is attached to a notebook cannot be written, and what lies in its working folder is kept: 5 GB of packages.
    if [[ -z ${PODIUM_VENV:-} && ! -w $root ]] && hosted; then venv=${TMPDIR:-/tmp}/podium-venv; fi
    [[ $venv == /* ]] || venv=$PWD/$venv
    if [[ -z ${PODIUM_VENV:-} ]]; then
        if [[ -n $active && -x $active/bin/python && ! $active -ef $venv ]]; then
            own=$active/bin/python
        elif hosted; then
            own=$(command -v python3) || true
        fi
    fi
    if [[ -n $own ]]; then
        python=$own
        if why=$(suits "$own"); then
            return
        elif hosted && [[ -z ${VIRTUAL_ENV:-} ]] && in_range "$(version_of "$own")"; then
            status=0
            "$own" "$root/scripts/environment.py" complete "$need" >&2 || status=$?
            case $status in
                0) return ;;
                3) ;; # what it said tells why this Python must stay as it is
                *) exit 2 ;;
            esac
        else
            say "${active:-$own} $why; it is left as it is and $venv is used"
        fi
    fi
    python=$venv/bin/python
    if is_ready "$venv"; then return; fi
    if [[ -z ${PODIUM_VENV:-} && -z $own ]] && own=$(command -v python3) && suits "$own" >/dev/null; then
        python=$own
        return
    fi
    if [[ -x $python && ! -e $venv/podium.stamp ]] && suits "$python" >/dev/null; then return; fi # the user's own .venv
    make_environment "$venv"
}

# Prints the Python to make an environment with.
find_python() {
    local candidate version seen="" bare=""
    local -a candidates=(python3 python3.13 python3.12 python3.11 python3.14)
    if [[ -n ${PODIUM_PYTHON:-} ]]; then candidates=("$PODIUM_PYTHON"); fi
    for candidate in "${candidates[@]}"; do
        version=$(version_of "$candidate")
        if ! in_range "$version"; then
            if [[ -n $version && -z $seen ]]; then seen="$candidate is $version"; fi
        elif "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            command -v "$candidate"
            return
        elif [[ -z $bare ]]; then
            bare="$candidate cannot make virtual environments: install its venv module (Debian, Ubuntu: apt install"
            bare+=" python$version-venv)"
        fi
    done
    if [[ -n $bare ]]; then fail "$bare, or name another Python in PODIUM_PYTHON"; fi
    fail "podium needs Python $oldest to $newest, but ${seen:-${PODIUM_PYTHON:-python3} does not run}:" \
        "install a newer one and, where it is not on PATH, name it in PODIUM_PYTHON"
}

# The likely cause of pip's failure, from its log $1.
cause_in() {
    if grep -qE 'NewConnectionError|NameResolutionError|name resolution|ConnectTimeout|unreachable' "$1"; then
        echo "the package index cannot be reached (no network?)"
    elif grep -q 'No space left' "$1"; then
        echo "the disk is full (about 6 GB are needed)"
    else
        grep 'ERROR' "$1" | tail -n 1
    fi
}

# Succeeds where $1 holds things, none of which marks an environment. One listing decides: another start may be putting
# its lock there at this moment, and two looks would see a folder without a lock and then one with something in it.
is_foreign() {
    local held
    if [[ -e $1 && ! -d $1 ]]; then return 0; fi
    held=$(ls -A -- "$1" 2>/dev/null) || return 1 # not there
    [[ -n $held ]] && ! grep -qxE 'podium\.(lock|stamp)|pyvenv\.cfg' <<<"$held"
}

# Makes or completes the environment $1. One start at a time; what is half-made there is made anew.
make_environment() {
    local venv=$1 stamp=$1/podium.stamp log=$1/install.log state="" base version began=$SECONDS
    if is_foreign "$venv"; then
        fail "$venv is there and is no virtual environment: move it away, or name another folder in PODIUM_VENV"
    fi
    { mkdir -p -- "$venv" && exec 9>>"$venv/podium.lock"; } 2>/dev/null ||
        fail "cannot write to $venv: name another folder (6 GB of room) in PODIUM_VENV"
    if command -v flock >/dev/null && ! flock -n 9; then
        say "another start is installing into $venv; waiting for it"
        flock 9 || true # a file system without locks
    fi
    if is_ready "$venv"; then
        exec 9>&-
        return
    fi

    version=$(version_of "$venv/bin/python")
    if [[ -e $stamp ]]; then # ours
        state=$(<"$stamp")
        if [[ $state == installing ]]; then say "the installation in $venv was interrupted; doing it again"; fi
        if [[ $state == installing || -z $version || (-n $state && $state != *" python $version "*) ]]; then
            echo installing >"$stamp" # stays to the last: without it this could pass for the user's own environment
            find "$venv/" -mindepth 1 -maxdepth 1 ! -name podium.lock ! -name podium.stamp -exec rm -rf -- {} +
            version="" state=""
        fi
    elif [[ -n $version ]] && ! in_range "$version"; then
        fail "$venv is Python $version, podium needs $oldest to $newest: move it away, or name another in PODIUM_VENV"
    fi

    if [[ -z $version ]]; then
        base=$(find_python) || exit 2
        echo installing >"$stamp"
        "$base" -m venv "$venv" >"$log" 2>&1 || fail "$base -m venv $venv failed; what it said is in $log"
    fi
    echo installing >"$stamp"
    say "installing requirements.txt into $venv (once; 1 to 5 minutes, 5 GB; log: $log)"
    # PIP_USER, which some systems set, would send the packages past the environment.
    if ! PIP_USER=0 PIP_DISABLE_PIP_VERSION_CHECK=1 "$venv/bin/python" -m pip install --no-input --progress-bar off \
        -r "$root/requirements.txt" >"$log" 2>&1 9>&-; then
        grep -q '^Installing collected' "$log" || echo "$state" >"$stamp" # nothing was changed
        fail "pip could not install requirements.txt: $(cause_in "$log"); all it said is in $log," \
            "and the same command tries again"
    fi
    # The `podium` command for whoever activates .venv; everything here runs without it, so it may fail.
    if [[ -z ${PODIUM_VENV:-} ]]; then
        PIP_USER=0 "$venv/bin/python" -m pip install --no-input --no-deps --no-build-isolation -e "$root" \
            >>"$log" 2>&1 9>&- || say "the command 'podium' could not be put into $venv (see $log); all else works"
    fi
    stamp_of "$venv" >"$stamp.new"
    mv -- "$stamp.new" "$stamp"
    say "installed in $((SECONDS - began)) s"
    exec 9>&-
}
