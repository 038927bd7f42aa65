# What the jobs of this folder have in common. Their scripts read it; by itself it does nothing.
export REPOSITORY PYTHONPATH=$REPOSITORY${PYTHONPATH:+:$PYTHONPATH}
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun no longer takes it over by itself

JOB=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID} # the task of an array alone
JOB=${JOB:-${SLURM_JOB_ID:-}}

say() { echo "${SLURM_JOB_NAME:-$(basename "$0")}: $*" >&2; }

[[ -z $MODULES ]] || type module &>/dev/null || { say "MODULES=$MODULES, but there is no \`module\` here: see slurm/site.sh"; exit 2; }
for each in $MODULES; do module load "$each"; done
[[ -n $CONTAINER ]] || type "$PYTHON" &>/dev/null || { say "no $PYTHON: run \`make env\`, or set PYTHON (slurm/site.sh)"; exit 2; }

# python SCRIPT ARGUMENT...: runs a script of launcher/ on this node.
python() { $CONTAINER "$PYTHON" "$REPOSITORY/launcher/$1.py" "${@:2}"; }

# ranks SCRIPT ARGUMENT...: runs it as the ranks of a step; OF_STEP are more options of srun. When one has ended the others
# have so many seconds for it; 0 leaves them all the time they want.
OF_STEP=()
OTHERS_END=60
ranks() {
    srun --kill-on-bad-exit=0 --wait="$OTHERS_END" "${OF_STEP[@]}" $CONTAINER "$PYTHON" "$REPOSITORY/launcher/$1.py" "${@:2}"
}

# serve ARGUMENT...: runs teachers as the ranks of a step, which students call by their nodes' names. With STAY, the signal
# near the time limit is not for them.
serve() {
    local here=${STAY:+'trap "" USR1; '}'script=$1; shift; exec '$CONTAINER' "$0" "$script" --host 0.0.0.0 --advertise "$(hostname)" "$@"'
    srun "${OF_STEP[@]}" bash -c "$here" "$PYTHON" "$REPOSITORY/launcher/teach.py" "$@"
}

# queue ARGUMENT...: outside of a job, submits this script with its arguments, and is done.
queue() {
    local run job
    [[ -z ${SLURM_JOB_ID:-} ]] || return 0
    run=$(value_of --run "$@")
    [[ -z $run ]] || claim "$run"
    job=$(sbatch --parsable ${PARTITION:+--partition="$PARTITION"} ${ACCOUNT:+--account="$ACCOUNT"} ${QOS:+--qos="$QOS"} $RESOURCES "$0" "$@")
    echo "Submitted batch job $job"
    [[ -z $run ]] || SLURM_JOB_ID=${job%%;*} note "$run" queued # after it there may be the cluster's name
    exit 0
}

# values_of OPTION ARGUMENT...: VALUES is what follows the last of these options.
values_of() {
    local each taken=
    VALUES=()
    for each in "${@:2}"; do
        case $each in
            "$1") VALUES=() taken=yes ;;
            "$1"=*) VALUES=("${each#*=}") taken= ;;
            --*) taken= ;;
            *) [[ -z $taken ]] || VALUES+=("$each") ;;
        esac
    done
}

# value_of OPTION ARGUMENT...: the one value of an option.
value_of() {
    local VALUES
    values_of "$@"
    ((${#VALUES[@]} < 2)) || { say "$1 ${VALUES[*]}: name one"; exit 2; }
    echo "${VALUES[0]:-}"
}

# first_time: whether this job has not been in the queue again.
first_time() { ((${SLURM_RESTART_COUNT:-0} == 0)); }

# train SCRIPT ARGUMENT...: trains with all ranks of the job. A run that was stopped, by the time limit, a preemption or
# a signal, or that lost a rank, goes back into the queue, unless it got no further the last times.
STUCK=${STUCK:-3} # starts in a row that may get no further
train() {
    local run begun code=0
    run=$(value_of --run "$@")
    mkdir -p "$run"
    ((STUCK > $(starts_in_vain "$run"))) || give_up "$run" 1 # Slurm itself brings back what loses its first node
    claim "$run"
    note "$run" "nodes=$SLURM_JOB_NUM_NODES step=$(newest_step "$run")"
    begun=$(date -u +%FT%T)
    trap : TERM USR1 INT # they are for the ranks, which save a checkpoint
    ranks "$@" || code=$?
    ((code)) || return 0
    # What is wrong with the recipe will be so again; but a node without its Python or its disk ends with 2 as well.
    if ((code == 2)) && ! python "$1" --check "${@:2}" >/dev/null; then
        note "$run" "ended code=2"
        return 2
    fi
    again "$code" "$(first_error "$run" "$begun")" "$run" "$(starts_in_vain "$run")"
}

# note RUN WORD...: a line on what this job does with a run.
note() {
    mkdir -p "$1"
    echo "$(date -u +%FT%TZ) job=$SLURM_JOB_ID ${*:2}" >>"$1/.starts"
}

# starts_in_vain RUN: how often this job has started from the run's newest checkpoint.
starts_in_vain() { { cat "$1/.starts" 2>/dev/null || :; } | grep -c " job=$SLURM_JOB_ID .* step=$(newest_step "$1")\$" || :; }

# claim RUN: ends where a job that came to it earlier is still in the queue. A job leaves its own line first: lines have an
# order, so of two that come at once one goes on. One that is ending is waited for. On the nodes, the lock in the run folder
# keeps two trainings apart as well, where the file system has locks.
claim() {
    local earlier queued tries own=${SLURM_JOB_ID:-none}
    [[ $own == none ]] || grep -qs " job=$own " "$1/.starts" || note "$1" came
    earlier=$({ cat "$1/.starts" 2>/dev/null || :; } | sed "/ job=$own /,\$d; s/.* job=\([0-9]*\) .*/\1/" | sort -u)
    [[ -n $earlier ]] || return 0
    for ((tries = 0; tries < 60; tries++)); do
        queued=$(patiently squeue --noheader --format="%A %T") || return 0
        queued=$(grep -wF -m1 "$earlier" <<<"$queued") || return 0
        [[ $queued == *" COMPLETING" ]] || break
        sleep 1 || :
    done
    say "$1: job ${queued% *} is at work in it (${queued#* }): let it end, or scancel ${queued% *}"
    exit 2
}

# newest_step RUN: the step of its newest checkpoint.
newest_step() {
    local newest=step-0 each
    for each in "$1"/checkpoints/step-*; do
        each=${each##*/}
        [[ ! $each =~ ^step-[0-9]+$ ]] || newest=$each
    done
    echo $((10#${newest#step-}))
}

# first_error RUN SINCE: what ended a rank first, from then on.
first_error() {
    { cat "$1"/errors/rank-*.log 2>/dev/null || :; } | grep -v '^ ' | sort | awk -v since="$2" '$1 >= since && !told++' || :
}

# again CODE [WHY [RUN [TIMES]]]: puts this job back into the queue, after an exit code, if that was not in vain STUCK times.
again() {
    local state why=${2:+; first of all, $2}
    state=$(patiently squeue --noheader --jobs="$JOB" --format=%T | sort -u) || return "$1" # a line for each component
    if [[ $state != RUNNING ]]; then
        say "exit code $1, and the job is ending by itself ($state)$why"
        [[ -z ${3:-} ]] || note "$3" "ended code=$1"
        return "$1"
    fi
    ((${4:-0} < STUCK)) || give_up "${3:-}" "$1" "$why"
    say "exit code $1: back into the queue$why"
    [[ -z ${3:-} ]] || note "$3" queued
    if patiently scontrol requeue "$JOB"; then exit 0; fi
    [[ -z ${3:-} ]] || note "$3" "ended code=$1"
    return "$1"
}

# give_up RUN CODE [WHY]: ends this job for good.
give_up() {
    say "exit code $2, and $STUCK starts in vain: this job ends; see above why. Submitted again, it goes on${3:-}"
    [[ -z $1 ]] || note "$1" "ended code=$2"
    exit "$2"
}

# patiently COMMAND...: again until it succeeds, for a minute: Slurm may be busy, and a signal to the job ends what it asks.
patiently() {
    local tries=0
    until "$@"; do
        ((++tries < 60)) || return 1
        sleep 1 || :
    done
}
