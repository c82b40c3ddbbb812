# An environment that lives as long as the job, on the nodes' own disks: importing TensorFlow from
# there spares the shared file system thousands of small reads by every rank.

# Runs a bash function once on every node of the job; 0 s is without a limit.
harness_on_nodes() { # SECONDS FUNCTION ARGUMENT...
    local limit_s=$1
    shift
    timeout "$limit_s" srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
        --ntasks-per-node=1 --mpi=none --kill-on-bad-exit=1 \
        bash -c "$(declare -f "$1"); \"\$@\"" bash "$@" </dev/null
}

# On one node: makes FOLDER with the environment in it.
harness_build_here() { # FOLDER PYTHON REQUIREMENTS WHEELHOUSE
    local folder=$1 python=$2 requirements=$3 from=() old said code
    if [ -n "$4" ]; then from=(--no-index --find-links "$4"); fi
    # An earlier start of this job that was killed has left its own behind.
    for old in "${folder%/*}/harness-$SLURM_JOB_ID-"*; do
        if [ "$old" != "$folder" ] && [ -O "$old" ]; then rm -rf "$old"; fi
    done
    if ! said=$(mkdir -m 700 "$folder" 2>&1); then
        if [ ! -O "$folder" ] || [ -L "$folder" ]; then
            echo "$said on $SLURMD_NODENAME"
            return 1
        fi
        # Nodes that have this folder in common: another one makes it.
        until [ -e "$folder/made" ]; do
            if [ -e "$folder/failed" ]; then return 1; fi
            sleep 0.5
        done
        return 0
    fi
    # Not compiled beforehand: of TensorFlow's modules few are ever imported.
    {
        TMPDIR=$folder "$python" -m venv "$folder/venv" &&
            env -u PIP_USER -u PIP_TARGET -u PIP_PREFIX TMPDIR="$folder" \
                "$folder/venv/bin/python" -m pip install --no-input --no-compile --no-color \
                --progress-bar off --disable-pip-version-check "${from[@]}" -r "$requirements" &&
            (cd / && "$folder/venv/bin/python" -c 'import harness')
    } 2>&1 | sed "s/^/$SLURMD_NODENAME: /"
    code=${PIPESTATUS[0]}
    if [ "$code" = 0 ]; then : >"$folder/made"; else : >"$folder/failed"; fi
    return "$code"
}

harness_remove_here() { rm -rf "$1"; } # FOLDER

# Makes the environment on every node of the job; harness_built becomes its folder.
harness_build() { # SITE PYTHON REQUIREMENTS WHEELHOUSE SCRATCH_VARIABLE...
    local site=$1 python=$2 requirements=$3 wheelhouse=$4 scratch=/tmp name said code=0
    shift 4
    for name in "$@"; do
        if [ -n "${!name:-}" ] && [ -d "${!name}" ]; then
            scratch=${!name}
            break
        fi
    done
    # Every start has a name of its own, whatever an earlier one has left.
    harness_built=${scratch%/}/harness-$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}-$RANDOM
    echo "harness: making the Python environment in $harness_built" >&2
    said=$(harness_on_nodes 0 harness_build_here "$harness_built" "$python" "$requirements" \
        "$wheelhouse" 2>&1) || code=$?
    printf '%s\n' "$said" >&2
    if [ "$code" != 0 ]; then
        harness_remove_build
        said=$(printf '%s\n' "$said" | grep -Ev '^(srun|slurmstepd): |^ *$' | tail -n 1)
        harness_refuse 3 "site $site: environment.build: it could not be made ($said); next: see \
above, and try '$requirements' with pip on the login node; harness must be in it"
    fi
    # shellcheck disable=SC2034 # the step's command has it
    harness_python=$harness_built/venv/bin/python
    export VIRTUAL_ENV=$harness_built/venv PATH=$harness_built/venv/bin:$PATH
}

# Removes it from every node.  This one's first: nothing more can be started in a job that has
# been cancelled.
harness_remove_build() {
    rm -rf "$harness_built"
    if [ "$SLURM_JOB_NUM_NODES" -gt 1 ]; then
        harness_on_nodes 20 harness_remove_here "$harness_built" ||
            echo "harness: $harness_built may be left on other nodes" >&2
    fi
}
