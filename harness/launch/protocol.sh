# How a run goes on.  The ranks save and leave with code 0 when they are asked to stop, so that
# none of them is killed inside a save; how it ended stands in an outcome file.  This shell reads
# it and requeues the job, or ends with the outcome's code.

harness_say() { printf 'harness: %s\n' "$*" >&2; }

# Ends the job with a code and a reason.  But for 75, another start would meet the same.
harness_refuse() {
    harness_say "$2"
    if [ "$1" != 75 ]; then harness_end_chain; fi
    exit "$1"
}

# The newest checkpoint, by its step.
harness_checkpoint() {
    local folder step newest=-1
    for folder in "$harness_run"/checkpoints/step-*; do
        step=${folder##*/step-}
        case $step in '' | *[!0-9]*) continue ;; esac
        if ((10#$step > newest)); then newest=$((10#$step)); fi
    done
    echo "$newest"
}

# The number of the newest outcome file.
harness_outcome() {
    local file number newest=0
    for file in "$harness_run"/slurm/outcome-*.json; do
        number=${file##*/outcome-}
        number=${number%.json}
        case $number in '' | *[!0-9]*) continue ;; esac
        if ((10#$number > newest)); then newest=$((10#$number)); fi
    done
    echo "$newest"
}

# The number of attempts that have begun.
harness_begun() {
    if [ -e "$harness_run/attempts.jsonl" ]; then
        grep -c '"event": "begin"' "$harness_run/attempts.jsonl"
    else
        echo 0
    fi
}

# One plain value of a JSON file that has one key on each line.
harness_value() {
    sed -n "s/^ *\"$2\": \"\{0,1\}\([A-Za-z0-9_-]*\)\"\{0,1\},\{0,1\}\$/\1/p" "$1" | head -n 1
}

# Puts standard input in place as a whole, under this name in the run directory.
harness_write() {
    cat >"$harness_run/.$harness_job.tmp" && mv "$harness_run/.$harness_job.tmp" "$harness_run/$1"
}

harness_now() { date -u +%Y-%m-%dT%H:%M:%S.000Z; }

# What is to be noted may come from elsewhere; only plain characters get into JSON.
harness_plain() { printf '%s' "$*" | LC_ALL=C tr -c 'A-Za-z0-9 .,:;()/_-' ' '; }

# When the job's time is over, for the ranks: they stop by themselves while they can still save.
harness_job_end() {
    local end=${SLURM_JOB_END_TIME:-} # not of older versions
    if [ -z "$end" ]; then
        end=$(timeout 20 squeue -h -j "$SLURM_JOB_ID" -o %e 2>/dev/null | head -n 1)
        if [ -n "$end" ]; then end=$(date -d "$end" +%s 2>/dev/null); fi # none: today
    fi
    case $end in '' | *[!0-9]*) return ;; esac
    export HARNESS_JOB_END=$end
}

# The batch script starts; nothing has been asked of the ranks yet.
harness_start() {
    harness_job=$SLURM_JOB_ID
    if [ -n "${SLURM_ARRAY_JOB_ID:-}" ]; then
        harness_job=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
    fi
    harness_asked='' harness_pid='' harness_sender=''
    trap 'harness_forward USR2' USR2
    trap 'harness_forward TERM' TERM
    if [ ! -d "$harness_run/slurm" ]; then
        harness_refuse 5 "the run directory is not there: $harness_run"
    fi
    harness_log=$harness_run/slurm/${harness_job}_0_log.err
    harness_log_before=$(stat -c %s "$harness_log" 2>/dev/null || echo 0)
    harness_logs_before=$(stat -c '%s %n' "$harness_run/slurm/${harness_job}"_*_log.err 2>/dev/null)
    local known=${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}
    if ! grep -qs "\"id\": \"$known\"" "$harness_run/slurm/jobs.jsonl"; then
        printf '{"id": "%s", "executor": "slurm", "submitted": "%s"%s}\n' \
            "$known" "$(harness_now)" "$harness_noted" >>"$harness_run/slurm/jobs.jsonl"
    fi
    harness_say "job $harness_job, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST"
    if [ -e "$harness_run/FINISHED" ]; then
        harness_say "the run is finished, there is nothing to do"
        exit 0
    fi
    if [ -e "$harness_run/FAILED" ]; then
        harness_refuse 1 "the run has failed; next: $harness_resume"
    fi
    if [ -e "$harness_run/slurm/CANCELLED" ]; then
        harness_refuse 75 "the run was cancelled; next: $harness_resume"
    fi
    harness_checkpoint_before=$(harness_checkpoint)
    harness_outcome_before=$(harness_outcome)
    harness_begun_before=$(harness_begun)
    harness_job_end
}

# Asks the ranks to save and stop.  srun passes the signal on to all of them, but not before it
# has started them all, and Python is deaf at its start: so it is sent until srun has ended.
# shellcheck disable=SC2317 # the traps call it
harness_forward() {
    harness_asked=$1
    if [ -n "$harness_pid" ] && [ -z "$harness_sender" ]; then
        harness_say "SIG$1: the ranks are asked to save and stop"
        while kill -USR2 "$harness_pid" 2>/dev/null; do sleep 2; done &
        harness_sender=$!
        disown "$harness_sender" # bash need not say how it ended
    fi
}

# Runs the ranks.  Not in the foreground: bash hears signals only while it waits.
harness_step() {
    harness_status=0
    if [ -e "$harness_run/slurm/CANCELLED" ]; then harness_asked=USR2; fi
    if [ -n "$harness_asked" ]; then return; fi
    # By it the ranks know one another; nobody else on their machines has it.
    HARNESS_GANG_SECRET=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    export HARNESS_GANG_SECRET
    "$@" &
    harness_pid=$!
    if [ -n "$harness_asked" ]; then harness_forward "$harness_asked"; fi
    wait "$harness_pid"
    while kill -0 "$harness_pid" 2>/dev/null; do wait "$harness_pid"; done
    wait "$harness_pid" # one that a signal has cut short did not tell the code
    harness_status=$?
    harness_pid=''
    if [ -n "$harness_sender" ]; then kill "$harness_sender" 2>/dev/null; fi
}

# Ends the job by how the attempt ended.
harness_end() {
    local number outcome='' code=1
    # The job on a node that nobody reached, or a second job of the run: to requeue it now would
    # end the one that works.
    if (($(harness_begun) > harness_begun_before + 1)); then
        harness_refuse 75 "another start of this run has begun since; this one leaves it alone"
    fi
    number=$(harness_outcome)
    if ((number > harness_outcome_before)); then
        outcome=$(harness_value "$harness_run/slurm/outcome-$number.json" outcome)
        code=$(harness_value "$harness_run/slurm/outcome-$number.json" exit_code)
    fi
    case $outcome in
    finished)
        rm -f "$harness_run/slurm/without-progress"
        harness_end_chain
        exit 0
        ;;
    stopped | requeue) harness_go_on "the attempt was stopped" ;;
    interrupted)
        harness_look_for_memory
        harness_go_on "the attempt was stopped"
        ;;
    refused | failed)
        harness_say "the attempt has ended with outcome $outcome, nothing is tried again"
        harness_end_chain
        exit "$code"
        ;;
    *)
        harness_look_for_memory
        harness_crashed
        ;;
    esac
}

# A rank that took more memory than the job has would do so again: the run has failed.  SLURM says
# it to the log, whichever of its plug-ins has seen it (cgroups, or what it gathers of processes).
harness_look_for_memory() {
    local said why
    said=$(tail -c "+$((harness_log_before + 1))" "$harness_log" |
        grep -aE '^(srun|slurmstepd)[:-]' |
        grep -aiEm 1 'out of memory|oom[-_ ]?kill|exceeded (job |step )?memory limit')
    if [ -z "$said" ]; then return; fi
    why="a rank was killed for memory ($(harness_plain "$said"))"
    if (($(harness_begun) > harness_begun_before)); then harness_note failed 1 "$why"; fi
    printf '{\n  "time": "%s",\n  "reason": "%s"\n}\n' "$(harness_now)" "$why" |
        harness_write FAILED
    harness_refuse 1 "$why; lower training.batch_size, or ask for more by cluster.mem_gb; \
next: $harness_resume"
}

# What a rank has printed last in this start: only what it has said itself.
harness_last_lines() {
    local size name before=0
    while read -r size name; do
        if [ "$name" = "$1" ]; then before=$size; fi
    done <<<"$harness_logs_before"
    tail -c "+$((before + 1))" "$1" 2>/dev/null | tail -c 4000 |
        grep -av -e '^ *$' -e '^srun: ' -e '^slurmstepd: ' -e '^harness: job ' |
        tail -n 3 | cut -c 1-200 | tr '\n' ';' | sed 's/;$//; s/;/; /g'
}

# The ranks have left no outcome.
harness_crashed() {
    local why="the ranks ended with code $harness_status" first rank log last
    first=$(tail -c "+$((harness_log_before + 1))" "$harness_log" |
        grep -as '^srun: error: .*task' | head -n 1)
    if [ -n "$first" ]; then why="$why; ${first#srun: error: }"; fi
    # Where several end badly, srun tells of the first one first.
    rank=$(printf '%s\n' "$first" | sed -n 's/.* tasks\{0,1\} \([0-9]*\).*/\1/p')
    log=$harness_run/slurm/${harness_job}_${rank:-0}_log.err
    if (($(harness_begun) > harness_begun_before)); then
        last=$(harness_last_lines "$log")
        if [ -n "$last" ]; then last="; last lines of rank ${rank:-0}: $last"; fi
        harness_note interrupted 75 "$why and no word$last"
        harness_go_on "$why, without a word$last"
    fi
    # Python itself was not ready for the signal yet, or no rank was started any more.
    if [ -n "$harness_asked" ] || [ -e "$harness_run/slurm/CANCELLED" ]; then
        harness_go_on "it was stopped before it began"
    fi
    case $first in
    *'Exited with exit code '[2-5]) harness_refuse "${first##* }" "$why" ;;
    *'Exited with exit code '*) ;;                         # and so it would the next time
    *)
        case $harness_status in 2 | 3 | 4 | 5) harness_refuse "$harness_status" "$why" ;; esac
        # Killed, or srun could not start it: that may be better the next time.
        harness_go_on "$why before training began"
        ;;
    esac
    harness_refuse 3 "$why before training began; what rank ${rank:-0} printed: $log"
}

# Writes down how the newest attempt ended, for a process that could not.
harness_note() {
    local number
    number=$(harness_begun)
    printf '{\n  "attempt": %s,\n  "time": "%s",\n  "outcome": "%s",\n  "message": "%s",\n  "exit_code": %s\n}\n' \
        "$number" "$(harness_now)" "$1" "$(harness_plain "$3")" "$2" |
        harness_write "slurm/outcome-$number.json"
}

# Counts this attempt if it got no further than the one before; fails once there are too many.
harness_charge() {
    local file=$harness_run/slurm/without-progress
    if (($(harness_checkpoint) > harness_checkpoint_before)); then
        rm -f "$file"
        return 0
    fi
    harness_checkpoint >>"$file"
    (($(grep -c . "$file") < harness_max_attempts))
}

# Another attempt, if that is wanted and allowed.
harness_go_on() {
    if [ -e "$harness_run/slurm/CANCELLED" ]; then
        harness_refuse 75 "cancelled; next: $harness_resume"
    fi
    if ! harness_charge; then
        local why="$harness_max_attempts attempts in a row without a new checkpoint"
        printf '{\n  "time": "%s",\n  "reason": "%s"\n}\n' \
            "$(harness_now)" "$why; the last one: $(harness_plain "$1")" | harness_write FAILED
        harness_refuse 1 "$why: given up; the last one: $1"
    fi
    case $harness_continue in
    requeue) harness_requeue "$1" ;;
    chain)
        if ((SLURM_ARRAY_TASK_ID >= harness_last_task)); then
            harness_refuse 75 "$1, and this was the last job of the chain; next: $harness_resume"
        fi
        harness_refuse 75 "$1; the next job of the chain goes on"
        ;;
    *) harness_refuse 75 "$1; next: $harness_resume" ;;
    esac
}

# Somebody has called scancel.  While the job ends, scontrol shows only that it does; slurmstepd
# tells the log why.
harness_was_cancelled() {
    tail -c "+$((harness_log_before + 1))" "$harness_log" |
        grep -a '^slurmstepd.*\*\*\* JOB [0-9_]* ON .* CANCELLED AT ' | grep -aqv 'DUE TO'
}

harness_requeue() {
    local said
    if harness_was_cancelled; then
        harness_refuse 75 "the job was cancelled; next: $harness_resume"
    fi
    harness_say "$1; the job is requeued"
    trap - USR2 TERM
    if said=$(timeout 60 scontrol requeue "$harness_job" 2>&1); then
        sleep 600 # until SLURM ends this start of the job
        said="SLURM has not done it within ten minutes"
    fi
    if [ -z "$said" ]; then said="no answer within a minute"; fi
    harness_refuse 75 "the requeue was refused ($(harness_plain "$said")); what was saved stays; \
next: $harness_resume"
}

# The jobs of a chain that have not begun have nothing to do any more.  Where this node may not
# cancel, each of them sees that by itself.
harness_end_chain() {
    if [ "$harness_continue" = chain ]; then
        timeout 60 scancel --state=PENDING "$SLURM_ARRAY_JOB_ID" 2>/dev/null ||
            harness_say "the rest of the chain will find nothing to do"
    fi
}
