#!/bin/bash
# Distils a teacher into a student on the nodes of a Slurm cluster, from a teacher in every rank, or from stored answers:
#
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 slurm/distill.sh --config RECIPE --data SHARDS --teacher MODEL --run RUN
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 slurm/distill.sh --config RECIPE --data SHARDS --soft SOFT --run RUN
#
# With TEACHERS=1 in the environment, the first node (or so many) has a fleet of teachers, which answer the students on the
# others. For teachers on nodes of another kind, ask for a job of two components; the second one teaches:
#
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 : --nodes=1 --gpus-per-node=4 --ntasks-per-node=4 slurm/distill.sh ...
#
# or for two jobs: slurm/teach.sh --serve FLEET, and here --fleet FLEET. What follows the script's name is what
# launcher/distill.py takes. It checks, stops and goes on as slurm/pretrain.sh does.
#
#SBATCH --job-name=litebert-distill
#SBATCH --nodes=1
#SBATCH --time=1-00:00:00
#SBATCH --requeue --open-mode=append
#SBATCH --signal=USR1@180
#SBATCH --output=distill-%j.log
set -euo pipefail

REPOSITORY=${REPOSITORY:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
[[ -f $REPOSITORY/slurm/job.sh ]] || { echo "submit this from the repository, or set REPOSITORY" >&2; exit 2; }
source "$REPOSITORY/slurm/site.sh"
source "$REPOSITORY/slurm/job.sh"

TEACHERS=${TEACHERS:-0}                     # nodes of teachers, of those of the job
[[ $TEACHERS =~ ^[0-9]+$ ]] || { say "TEACHERS=$TEACHERS is no number of nodes"; exit 2; }
TEACH=${TEACH:---codec.kind hidden}         # what launcher/teach.py takes for them, beside teacher and data

run=$(value_of --run "$@")
fleet=$run/.fleet
values_of --fleet "$@"
if first_time && ((${#VALUES[@]} == 0)); then # a fleet may come later
    python distill --check "$@"
fi
if ((TEACHERS)) || [[ -n ${SLURM_HET_SIZE:-} ]]; then
    teacher=$(value_of --teacher "$@")
    data=$(value_of --data "$@")
    TEACHING=(--teacher "$teacher" --data "$data" --serve "$fleet" $TEACH)
    if first_time; then python teach --check "${TEACHING[@]}"; fi
fi
queue "$@"
if [[ -n ${SLURM_HET_SIZE:-} ]]; then
    of_students=(--het-group=0) of_teachers=(--het-group=1)
elif ((TEACHERS)); then
    each=${SLURM_NTASKS_PER_NODE:-1}
    students=$((SLURM_JOB_NUM_NODES - TEACHERS))
    ((students > 0)) || { say "TEACHERS=$TEACHERS nodes of $SLURM_JOB_NUM_NODES leave none to students: ask for more --nodes"; exit 2; }
    of_students=(--nodes="$students" --ntasks=$((students * each)) --relative="$TEACHERS")
    of_teachers=(--nodes="$TEACHERS" --ntasks=$((TEACHERS * each)) --relative=0)
fi
if [[ -n ${of_teachers:-} ]]; then
    claim "$run"
    rm -rf "$fleet"                         # where those were that a node took with it
    OF_STEP=("${of_teachers[@]}")
    STAY=1 serve "${TEACHING[@]}" &
    OF_STEP=("${of_students[@]}")
    set -- "$@" --fleet "$fleet"
fi
train distill "$@"
