# A verb of harness as a job.  What it has done stays, and another start goes on from there.

# What counts as progress: files that are there under the names that they keep.
harness_checkpoint() {
    local file count=0
    for file in "$harness_made"/data-*; do
        if [ -e "$file" ]; then count=$((count + 1)); fi
    done
    echo "$count"
}

# Ends the job by the code of the verb.
harness_end() {
    if [ -n "$harness_asked" ] && [ -z "$harness_sender" ]; then
        harness_go_on "it was stopped before it began"
    fi
    case $harness_status in
    0)
        rm -f "$harness_run/slurm/without-progress"
        printf '{\n  "time": "%s"\n}\n' "$(harness_now)" | harness_write FINISHED
        harness_end_chain
        exit 0
        ;;
    2 | 3 | 4 | 5) harness_refuse "$harness_status" "nothing is tried again" ;;
    esac
    if [ -n "$harness_asked" ]; then harness_go_on "it was stopped"; fi
    if [ "$harness_status" = 1 ]; then harness_refuse 1 "nothing is tried again"; fi
    # Killed, for memory or with its node: what is done stays, and the next start may do better.
    harness_go_on "it ended with code $harness_status"
}
