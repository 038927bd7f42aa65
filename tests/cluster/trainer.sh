#!/bin/bash
# Stands for Python in tests of the job scripts: a training, or a teacher, of so many --steps, ten a second, that keeps
# to the exit codes of the real ones. It dies at once with --dies, the first time alone with
# --dies-once, and ends with 2 then with --ends-with-2-once; with --endless-once it then learns until it is stopped.
set -euo pipefail
script=$(basename "$1")
told="$*"
[[ $told != *--check* ]] || { echo "$script can begin"; exit 0; }
while (($#)); do
    case $1 in
        --run) run=$2 ;;
        --steps) steps=$2 ;;
    esac
    shift
done
echo "$script: rank $SLURM_PROCID of $SLURM_STEP_NUM_TASKS on $SLURM_STEP_NODELIST: $told"
if [[ "$told " == *"--dies "* ]]; then # of which rank 1 is the cause, and rank 0 the echo
    sleep $((1 - SLURM_PROCID))
    mkdir -p "$run/errors"
    echo "$(date -u +%FT%T.%6N+00:00) rank $SLURM_PROCID on $SLURMD_NODENAME: is ill" >>"$run/errors/rank-$SLURM_PROCID.log"
    echo "    for some reason" >>"$run/errors/rank-$SLURM_PROCID.log"
    exit 1
fi
[[ "$told " != *"--ends-with-2-once "* || ${SLURM_RESTART_COUNT:-0} -gt 0 ]] || exit 2
[[ "$told " != *"--dies-once "* || ${SLURM_RESTART_COUNT:-0} -gt 0 ]] || exit 137
[[ $script != teach.py ]] || exit 0
[[ "$told " != *"--endless-once "* || ${SLURM_RESTART_COUNT:-0} -gt 0 ]] || steps=999999
step=0
for each in "$run"/checkpoints/step-*; do [[ ! -d $each ]] || step=$((10#${each##*-})); done
save() {
    mkdir -p "$run/checkpoints/$(printf step-%08d "$step")"
    exit "$1"
}
trap 'save 85' USR1 TERM
while ((step < steps)); do
    sleep 0.1 || : # signals reach it too
    step=$((step + 1))
    ((step % 5)) || echo "step $step of rank $SLURM_PROCID"
done
save 0
