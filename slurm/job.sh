# What the jobs of this folder have in common. Their scripts read it; by itself it does nothing.
export REPOSITORY PYTHONPATH=$REPOSITORY${PYTHONPATH:+:$PYTHONPATH}
for each in $MODULES; do module load "$each"; done
[[ -z ${SLURM_CPUS_PER_TASK:-} ]] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun no longer takes it over by itself

JOB=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID} # the task of an array alone
JOB=${JOB:-${SLURM_JOB_ID:-}}

say() { echo "${SLURM_JOB_NAME:-$(basename "$0")}: $*" >&2; }

# python SCRIPT ARGUMENT...: runs a script of launcher/ on this node.
python() { $CONTAINER "$PYTHON" "$REPOSITORY/launcher/$1.py" "${@:2}"; }

# ranks SCRIPT ARGUMENT...: runs it as the ranks of a step; OF_STEP are more options of srun. When one is gone the others
# end by themselves, and what does not is ended after a while.
OF_STEP=()
ranks() { srun --kill-on-bad-exit=0 --wait=60 "${OF_STEP[@]}" $CONTAINER "$PYTHON" "$REPOSITORY/launcher/$1.py" "${@:2}"; }

# serve ARGUMENT...: runs teachers as the ranks of a step, which students call by their nodes' names. With STAY, the signal
# near the time limit is not for them.
serve() {
    local here=${STAY:+'trap "" USR1; '}'script=$1; shift; exec '$CONTAINER' "$0" "$script" --host 0.0.0.0 --advertise "$(hostname)" "$@"'
    srun "${OF_STEP[@]}" bash -c "$here" "$PYTHON" "$REPOSITORY/launcher/teach.py" "$@"
}

# queue ARGUMENT...: outside of a job, submits this script with its arguments, and is done.
queue() {
    [[ -z ${SLURM_JOB_ID:-} ]] || return 0
    exec sbatch ${PARTITION:+--partition="$PARTITION"} ${ACCOUNT:+--account="$ACCOUNT"} ${QOS:+--qos="$QOS"} $RESOURCES "$0" "$@"
}

# value_of OPTION ARGUMENT...: what follows an option.
value_of() {
    local option=$1
    while shift && (($#)); do
        case $1 in
            "$option") echo "${2:-}"; return ;;
            "$option"=*) echo "${1#*=}"; return ;;
        esac
    done
}

# first_time: whether this job has not been in the queue again.
first_time() { ((${SLURM_RESTART_COUNT:-0} == 0)); }

# train SCRIPT ARGUMENT...: trains with all ranks of the job. A run that was stopped, by the time limit, a preemption or
# a signal, or that lost a rank, goes back into the queue, unless it got no further the last times.
STUCK=${STUCK:-3} # starts in a row that may get no further
train() {
    local run starts begun code=0
    run=$(value_of --run "$@")
    starts=$run/.starts # a line each
    refuse_a_second "$starts"
    mkdir -p "$run"
    echo "$(date -u +%FT%TZ) job=$SLURM_JOB_ID nodes=$SLURM_JOB_NUM_NODES step=$(newest_step "$run")" >>"$starts"
    begun=$(date -u +%FT%T)
    trap : TERM USR1 INT # they are for the ranks, which save a checkpoint
    ranks "$@" || code=$?
    case $code in
        0) ;;
        2) return 2 ;; # it said what is wrong, and would say it again
        *) again "$code" "$(grep -c "job=$SLURM_JOB_ID .*step=$(newest_step "$run")\$" "$starts")" "$(first_error "$run" "$begun")" ;;
    esac
}

# refuse_a_second FILE: ends where the job that was started last is another and still in the queue. On the nodes, the lock
# in the run folder keeps two trainings apart as well, where the file system has locks.
refuse_a_second() {
    local last state
    last=$(sed -n '$s/.* job=\([0-9]*\) .*/\1/p' "$1" 2>/dev/null) || return 0
    [[ -n $last && $last != "$SLURM_JOB_ID" ]] || return 0
    state=$(squeue --noheader --jobs="$last" --format=%T 2>/dev/null) || return 0
    [[ -n $state ]] || return 0
    say "$(dirname "$1"): job $last is at work in it ($state): let it end, or scancel $last"
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

# again CODE TIMES [WHY]: puts this job back into the queue, after an exit code, if that did not happen STUCK times already.
again() {
    local state verdict
    state=$(patiently squeue --noheader --jobs="$JOB" --format=%T | sort -u) || return "$1" # a line for each component
    if [[ $state != RUNNING ]]; then
        verdict=", and the job is ending by itself ($state)"
    elif (($2 >= STUCK)); then
        verdict=", and $2 starts in vain: this job ends; see above why. Submitted again, it goes on"
    else
        verdict=": back into the queue"
    fi
    say "exit code $1$verdict${3:+; first of all, $3}"
    if [[ $verdict == *queue ]] && patiently scontrol requeue "$JOB"; then exit 0; fi
    return "$1"
}

# patiently COMMAND...: again until it succeeds, for a minute: Slurm may be busy, and a signal to the job ends what it asks.
patiently() {
    local tries=0
    until "$@"; do
        ((++tries < 60)) || return 1
        sleep 1 || :
    done
}
