#!/bin/bash
# Shows the curves of runs with TensorBoard, from a node of a Slurm cluster, listening at that node's loopback alone:
#
#   sbatch slurm/tensorboard.sh FOLDER_OF_RUNS [--samples_per_plugin scalars=0]
#
# Its log, tensorboard-JOB.log, begins with the ssh line that brings it to your machine. PORT=6006 chooses the port. What follows
# the folder is what tensorboard takes.
#
#SBATCH --job-name=litebert-tensorboard
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=1
#SBATCH --mem=2G
#SBATCH --time=08:00:00
#SBATCH --output=tensorboard-%j.log
set -euo pipefail

REPOSITORY=${REPOSITORY:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
[[ -f $REPOSITORY/slurm/job.sh ]] || { echo "submit this from the repository, or set REPOSITORY" >&2; exit 2; }
source "$REPOSITORY/slurm/site.sh"
source "$REPOSITORY/slurm/job.sh"
RESOURCES= # those are of trainings

[[ -d ${1:-} ]] || { say "${1:-nothing} is no folder: name one that holds runs"; exit 2; }
queue "$@"
PORT=${PORT:-$($CONTAINER "$PYTHON" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')}
echo "ssh -N -L $PORT:localhost:$PORT -J $USER@$SLURM_SUBMIT_HOST $USER@$(hostname)    # on your machine, then http://localhost:$PORT"
exec $CONTAINER "$PYTHON" -m tensorboard.main --logdir "$1" --host 127.0.0.1 --port "$PORT" --reload_multifile true "${@:2}"
