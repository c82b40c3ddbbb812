# A container around every rank.  This shell and srun stay outside of it: they have SLURM's commands.

# What an image is, by its first bytes.
harness_image_kind() { # IMAGE
    case $1 in containers-storage:*) echo stored && return ;; esac
    if [ -d "$1" ]; then
        echo folder
    elif head -c 64 "$1" | grep -aq SIF_MAGIC; then
        echo SIF
    elif head -c 4 "$1" | grep -aq '^hsqs'; then
        echo squashfs
    fi
}

# The runtimes that can run such an image.
harness_runtimes() { # KIND
    case $1 in
    stored) echo podman ;;
    folder) echo apptainer singularity charliecloud podman ;;
    SIF) echo apptainer singularity ;;
    squashfs) echo apptainer singularity charliecloud ;;
    esac
}

# Chooses what runs the image on this node: harness_runtime and its command, harness_program.
harness_choose_runtime() { # FIELD of the image, RUNTIME or nothing, PROGRAM or nothing
    local can name program node=${SLURMD_NODENAME:-$(uname -n)} tried=''
    if [ "${harness_image#/}" != "$harness_image" ] && [ ! -r "$harness_image" ]; then
        harness_refuse 3 "$1: '$harness_image' cannot be read on $node; next: copy the image to where \
all nodes see it"
    fi
    harness_kind=$(harness_image_kind "$harness_image")
    can=$(harness_runtimes "$harness_kind")
    if [ -z "$can" ]; then
        harness_refuse 3 "$1: '$harness_image' is neither a SIF nor a squashfs file nor a folder; \
next: build it again, or convert it with the runtime's own commands"
    fi
    case " $can " in *" ${2:-${can%% *}} "*) ;; *)
        harness_refuse 3 "$1: $2 cannot run this kind of image ($harness_kind); next: use one of: $can"
        ;;
    esac
    for name in ${2:-$can}; do
        program=$name
        if [ "$name" = charliecloud ]; then program=ch-run; fi
        if [ -n "$3" ]; then program=$3; fi
        if type -P "$program" >/dev/null; then
            harness_runtime=$name harness_program=$program
            return
        fi
        tried="$tried${tried:+, }$program"
    done
    harness_refuse 3 "$1: there is no $tried on $node, and the image ($harness_kind) needs one; next: \
load its module in the profile's environment.modules, or ask the cluster's operators"
}

# Where ch-run can mount so that a folder is seen: at the folder itself, or at the nearest one above
# it that the image has, if that is empty there.  ch-run makes no folder in a read-only image.
harness_mount_point() { # FOLDER
    local folder=$1
    if [ "$harness_runtime" != charliecloud ]; then
        echo "$folder"
        return
    fi
    if [ "$harness_kind" = squashfs ]; then # what is in it cannot be looked at here
        folder=${folder#/}
        folder=/${folder%%/*}
        case $folder in
        /bin | /boot | /ch | /dev | /etc | /lib* | /opt | /proc | /root | /run | /sbin | /sys | /usr | /var)
            return 1
            ;;
        esac
        echo "$folder"
        return
    fi
    if [ ! -d "$harness_image$folder" ]; then
        while [ -n "$folder" ] && [ ! -d "$harness_image$folder" ]; do folder=${folder%/*}; done
        if [ -z "$folder" ] || [ -n "$(ls -A "$harness_image$folder")" ]; then return 1; fi
    fi
    echo "$folder"
}

# Makes a folder, or the folder of a file, visible to the ranks; fails where that cannot be.
harness_bind() { # PATH
    local folder=$1 known
    if [ ! -d "$folder" ]; then folder=${folder%/*}; fi
    case $folder in *[:,]*) return 1 ;; esac
    folder=$(harness_mount_point "$folder") || return 1
    for known in "${harness_binds[@]}"; do
        if [ "$known" = "$folder" ]; then return; fi
    done
    harness_binds+=("$folder")
}

# The same for what the run cannot do without.
harness_see() { # PATH, FIELD that names it
    if [ ! -e "$1" ]; then
        harness_refuse 3 "$2: '$1' is not there on ${SLURMD_NODENAME:-$(uname -n)}, so it cannot be \
seen in the container; next: correct the path"
    fi
    if ! harness_bind "$1"; then
        harness_refuse 3 "$2: '$1' cannot be mounted in $harness_image: it has no such folder, and none \
above it that is empty; next: mkdir -p '$harness_image$1', or use a path below a folder that the image \
has for this"
    fi
}

# For what is of use where it is there.
harness_see_if_there() { if [ -d "$1" ]; then harness_bind "$1" || true; fi; } # FOLDER

# A variable that names a folder is true inside as well, or is not set there.
harness_see_variable() { # NAME
    local value=${!1:-}
    if [ -z "$value" ]; then return; fi
    if [ "$1" = HARNESS_CACHE ]; then mkdir -p "$value"; fi
    if [ ! -d "$value" ] || ! harness_bind "$value"; then
        harness_say "$1 is not set for the ranks: the container cannot see $value"
        harness_hidden+=("$1")
    fi
}

# harness_inside becomes the words that stand before a command which is to run in the container.
harness_enter() { # FIELD of the image
    local bind name gpus=''
    if [ -e /dev/nvidiactl ]; then gpus=yes; fi
    export USER=${USER:-$(id -un)} # ch-run asks for it
    harness_inside=(env)
    for name in "${harness_hidden[@]}"; do harness_inside+=(-u "$name"); done
    harness_inside+=(LC_ALL=C.UTF-8 PYTHONNOUSERSITE=1 "$harness_program")
    case $harness_runtime in
    apptainer | singularity)
        harness_inside+=(exec --no-home --pwd "$harness_run")
        if [ -n "$gpus" ]; then harness_inside+=(--nv); fi
        for bind in "${harness_binds[@]}"; do harness_inside+=(--bind "$bind"); done
        harness_inside+=("${harness_container_options[@]}" "$harness_image")
        ;;
    charliecloud)
        harness_inside+=(--cd "$harness_run" --env-no-expand)
        if [ -e "$harness_image/ch/environment" ]; then harness_inside+=(--set-env); fi
        for bind in "${harness_binds[@]}"; do harness_inside+=(--bind "$bind"); done
        harness_inside+=("${harness_container_options[@]}" "$harness_image" --)
        ;;
    podman)
        harness_inside+=(run --rm --read-only --env-host --network=host --pid=host --ipc=host --uts=host
            --userns=keep-id --security-opt label=disable --workdir "$harness_run"
            --volume /tmp:/tmp)
        if [ -n "$gpus" ]; then harness_inside+=(--device nvidia.com/gpu=all); fi
        for bind in "${harness_binds[@]}"; do harness_inside+=(--volume "$bind:$bind"); done
        harness_inside+=("${harness_container_options[@]}")
        if [ "$harness_kind" = folder ]; then
            harness_inside+=(--rootfs "$harness_image:O")
        else
            harness_inside+=("${harness_image#containers-storage:}")
        fi
        ;;
    esac
    export HARNESS_CONTAINER_IMAGE=$harness_image HARNESS_CONTAINER_RUNTIME=$harness_runtime
    HARNESS_CONTAINER_DIGEST=$(harness_image_digest)
    export HARNESS_CONTAINER_DIGEST
}

# By what the run can know the image again: "sha256:HEX of WHAT".
harness_image_digest() {
    local sum packages=$harness_image/usr/local/share/harness/packages.txt
    case $harness_kind in
    stored)
        sum=$("$harness_program" image inspect --format '{{.Digest}}' \
            "${harness_image#containers-storage:}") && echo "$sum of the manifest"
        ;;
    folder)
        if [ -r "$packages" ]; then
            sum=$(sha256sum <"$packages") && echo "sha256:${sum%% *} of the list of packages"
        fi
        ;;
    *) sum=$(sha256sum <"$harness_image") && echo "sha256:${sum%% *} of the file" ;;
    esac
}

# Once, before any rank is started: is harness in there, and is it the one that this job is for?
harness_check_inside() { # FIELD of the image, PYTHON, VERSION of the harness that submitted
    local said
    said=$("${harness_inside[@]}" "$2" -c 'import harness; print(harness.__version__)' 2>&1) || {
        printf '%s\n' "$said" >&2
        harness_refuse 3 "$1: '$2' in $harness_image cannot import harness on \
${SLURMD_NODENAME:-$(uname -n)}, with $harness_runtime (${said##*$'\n'}); next: install harness in the \
image, or name the Python that has it in cluster.container.python"
    }
    said=${said##*$'\n'}
    if [ "${said%.*}" != "${3%.*}" ]; then
        harness_refuse 3 "$1: the image has harness $said, and harness $3 has submitted this job; next: \
build the image anew from the same version, or submit with harness $said"
    fi
    if [ "$said" != "$3" ]; then harness_say "the image has harness $said, submitted by $3"; fi
    # shellcheck disable=SC2034 # the step's command has it
    harness_python=$2
    harness_say "the ranks run in $harness_image, with $harness_runtime"
}
