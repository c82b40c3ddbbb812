# Which Python the ranks use; harness_refuse is there already.

# A Python that can be used becomes harness_python.
harness_use_python() { # PYTHON, the site's setting that leads to it, what to do
    local said node=${SLURMD_NODENAME:-$(uname -n)}
    if [ ! -f "$1" ] || [ ! -x "$1" ]; then
        harness_refuse 3 "$2: there is no Python at '$1' on $node; next: $3"
    fi
    # Not from here, where a folder of that name may lie.
    if ! said=$(cd / && "$1" -c 'import harness' 2>&1); then
        harness_refuse 3 "$2: '$1' cannot import harness on $node (${said##*$'\n'}); next: $3"
    fi
    # shellcheck disable=SC2034 # the step's command has it
    harness_python=$1
}
