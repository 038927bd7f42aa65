#!/bin/bash
# Measures a trained model on held-out documents, on a node of a Slurm cluster:
#
#   sbatch --gpus=1 slurm/evaluate.sh RUN --data SHARDS [--teacher MODEL ...] [--output FIGURES.json]
#
# What follows the script's name is what launcher/evaluate.py takes.
#
#SBATCH --job-name=litebert-evaluate
#SBATCH --ntasks=1
#SBATCH --time=04:00:00
#SBATCH --requeue --open-mode=append
#SBATCH --output=evaluate-%j.log
set -euo pipefail

REPOSITORY=${REPOSITORY:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
[[ -f $REPOSITORY/slurm/job.sh ]] || { echo "submit this from the repository, or set REPOSITORY" >&2; exit 2; }
source "$REPOSITORY/slurm/site.sh"
source "$REPOSITORY/slurm/job.sh"
RESOURCES= # those are of trainings

if first_time; then
    [[ -e ${1:-} ]] || { say "${1:-nothing} is no model: name a run, or a folder of Hugging Face's"; exit 2; }
    values_of --data "$@"
    for each in "${VALUES[@]}"; do [[ -d $each ]] || { say "$each is no folder of shards"; exit 2; }; done
fi
queue "$@"
ranks evaluate "$@"
