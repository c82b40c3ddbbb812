# A batch shell is no login shell, so `module` may be unknown.  Sourced outside any function, since
# what these files declare must stay.
for harness_file in "${LMOD_PKG:+$LMOD_PKG/init/bash}" "${MODULESHOME:+$MODULESHOME/init/bash}" \
    /etc/profile.d/{modules,lmod,z00_lmod}.sh /usr/share/{modules,Modules,lmod/lmod}/init/bash; do
    if type module >/dev/null 2>&1; then break; fi
    # shellcheck source=/dev/null
    if [ -r "$harness_file" ]; then . "$harness_file"; fi
done

# No `module purge` comes before: it takes away what the site itself has loaded for its network,
# its scheduler or its compilers, and some sites' basic modules do not come back.
harness_load_module() { # SITE MODULE
    local before=${LOADEDMODULES:-} node=${SLURMD_NODENAME:-$(uname -n)} loaded='' code=0
    if ! type module >/dev/null 2>&1; then
        harness_refuse 3 "site $1: environment.modules: $node has no module command; next: name \
the file that makes it in environment.init"
    fi
    module load "$2" || code=$?
    # Some versions report no failure, so the list is looked at too.  The full name may be longer
    # than what was asked for (python/3.11 is python/3.11.5), or, with an alias, another one.
    case ":${LOADEDMODULES:-}:" in *":$2"[:/.]*) loaded=yes ;; esac
    if [ "${LOADEDMODULES:-}" != "$before" ]; then loaded=yes; fi
    if [ "$code" != 0 ] || [ -z "$loaded" ]; then
        harness_refuse 3 "site $1: environment.modules: '$2' cannot be loaded on $node, what \
module said stands above; next: see what \`module avail\` lists there"
    fi
}
