#!/bin/bash
# Plays the part of a rank: what it does on each start stands in PLAY beside the run, a line each.
#
#   train S      an attempt begins and trains for S seconds; asked to stop, it saves and leaves
#   stubborn     an attempt begins and hears no signal
#   finish       an attempt begins, saves and finishes
#   refuse C     an attempt begins and ends with outcome refused and code C
#   crash        an attempt begins and is killed without a word
#   lose         of several ranks the second is killed, in the midst of an attempt of the first
#   first leaves of several ranks the first leaves with code 1, the others wait for ever
#   hog          an attempt begins and takes more memory than the job has
#   die          is killed before any attempt begins
#   leave C      leaves with code C before any attempt begins
#   deaf         has no attempt yet, and the signal kills it
if [ "$1" != -u ]; then exit 0; fi # the script looks whether this Python has harness
run=$(dirname "$4")
play=$run/play
read -r line <"$play"
# Until it can be asked: at its first moments a signal would end it, and it is sent again.
case $line in train*) trap '' USR2 TERM ;; esac
case $line in
"first leaves" | lose) ;;
*) sed -i 1d "$play" ;;
esac
set -- $line
# what the rank prints is what its logs hold
echo "rank ${SLURM_PROCID:-none} of job ${SLURM_JOB_ID:-none} plays: $line"

write() { printf '%s\n' "$2" >"$run/$1.tmp" && mv "$run/$1.tmp" "$run/$1"; }
begin() {
    number=$(($(grep -sc begin "$run/attempts.jsonl") + 1))
    echo "{\"attempt\": $number, \"event\": \"begin\", \"time\": \"2026-01-01T00:00:00.000Z\"}" \
        >>"$run/attempts.jsonl"
    before=$(ls "$run/checkpoints" | wc -l)
}
save() { mkdir -p "$run/checkpoints/step-$(printf %08d $(((before + 1) * 10)))"; }
end() {
    write "slurm/outcome-$number.json" "{
  \"attempt\": $number,
  \"outcome\": \"$1\",
  \"message\": \"played\",
  \"exit_code\": $2
}"
}

case $1 in
hog)
    begin
    head -c 900M /dev/zero | tail | sleep 60 # tail keeps what has no end of a line
    ;;
train)
    begin
    trap 'echo "asked by USR2"; save; end stopped 75; exit 0' USR2
    trap 'echo "asked by TERM"; save; end stopped 75; exit 0' TERM
    echo training
    for _ in $(seq "$2"0); do sleep 0.1; done
    save
    end finished 0
    touch "$run/FINISHED"
    ;;
stubborn)
    begin
    trap '' USR2 TERM
    echo training
    for _ in $(seq 3000); do sleep 0.1; done
    ;;
finish)
    begin
    save
    end finished 0
    touch "$run/FINISHED"
    ;;
refuse)
    begin
    end refused "$2"
    ;;
crash)
    begin
    printf 'a "last" \\ word; and one\n\nmore\n' >&2
    kill -KILL $$
    ;;
first)
    if [ "$SLURM_PROCID" = 0 ]; then
        sleep 1 # until all have read the line
        sed -i 1d "$play"
        exit 1
    fi
    for _ in $(seq 3000); do sleep 0.1; done
    ;;
lose)
    start=$run/start-${SLURM_RESTART_COUNT:-0}
    if [ "$SLURM_PROCID" = 0 ]; then
        begin
        until [ -e "$start-read" ]; do sleep 0.1; done
        sed -i 1d "$play"
        touch "$start-begun"
        for _ in $(seq 3000); do sleep 0.1; done
    fi
    touch "$start-read"
    for word in out of memory soon; do echo "$word" >&2; done
    until [ -e "$start-begun" ]; do sleep 0.1; done
    kill -KILL $$
    ;;
die) kill -KILL $$ ;;
leave) exit "$2" ;;
deaf)
    echo training
    for _ in $(seq 3000); do sleep 0.1; done
    ;;
esac
exit 0
