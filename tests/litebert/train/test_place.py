"""What launchers say of a process's place, read from the variables that they set."""

from __future__ import annotations

import pytest

from litebert.train.place import ALONE, RANKED, SRUN, Place, job_port, node_names

STEP = {
    "SLURM_PROCID": "3",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "2",
    "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NODELIST": "gpu[07-08,11]",
    "SLURM_STEP_TASKS_PER_NODE": "2,1(x2)",
    "SLURM_JOB_ID": "12",
    "SLURM_STEP_ID": "0",
}


def test_a_process_that_nobody_started_with_others_is_alone() -> None:
    assert Place.here({}) == Place(0, 1, 0, 1, ALONE)


def test_a_batch_script_is_alone_for_all_the_tasks_of_its_job() -> None:
    assert Place.here({"SLURM_PROCID": "0", "SLURM_NTASKS": "4", "SLURM_JOB_NODELIST": "gpu[1-2]"}).launcher == ALONE


def test_srun() -> None:
    assert Place.here(STEP) == Place(3, 4, 0, 1, SRUN, {"gpu07": 2, "gpu08": 1, "gpu11": 1}, "gpu11")


@pytest.mark.parametrize("local_size", ["LOCAL_SIZE", "LOCAL_WORLD_SIZE"])
def test_a_launcher_that_srun_started_counts(local_size: str) -> None:
    """As deepspeed and torchrun name it."""
    own = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", local_size: "4"}
    assert Place.here(STEP | own) == Place(5, 8, 1, 4, RANKED)


@pytest.mark.parametrize("environ", [{"RANK": "0"}, {"RANK": "2", "WORLD_SIZE": "2"}])
def test_half_of_the_variables_is_an_error(environ: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"WORLD_SIZE is not|rank 2 of 2"):
        Place.here(environ)


@pytest.mark.parametrize("name", ["RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_SIZE", "LOCAL_WORLD_SIZE"])
@pytest.mark.parametrize("text", ["a", "", "1.5"])
def test_what_is_no_number_is_named(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}={text} is in the environment, and is no whole number: set one$"):
        Place.here({"RANK": "0", "WORLD_SIZE": "2"} | {name: text})


def test_of_srun_as_well() -> None:
    for name in ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID", "SLURM_NODEID"):
        with pytest.raises(ValueError, match=f"^{name}=x is in the environment"):
            Place.here(STEP | {name: "x"})


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", []),
        ("login", ["login"]),
        ("a,b-2", ["a", "b-2"]),
        ("n[8-11]", ["n8", "n9", "n10", "n11"]),
        ("n[08-10,3],x", ["n08", "n09", "n10", "n3", "x"]),
        ("r[1-2]n[01-02]-ib", ["r1n01-ib", "r1n02-ib", "r2n01-ib", "r2n02-ib"]),
    ],
)
def test_names_of_nodes(text: str, names: list[str]) -> None:
    assert node_names(text) == names


def test_steps_restarts_and_jobs_have_their_own_ports() -> None:
    ports = {job_port(STEP | {"SLURM_JOB_ID": str(job), "SLURM_RESTART_COUNT": "1"}) for job in range(100)}
    others = {job_port(STEP), job_port(STEP | {"SLURM_STEP_ID": "1"}), job_port(STEP | {"SLURM_RESTART_COUNT": "1"})}
    assert len(others) == 3 and len(ports) > 95
    assert all(1024 < port < 32768 for port in ports | others)
    assert job_port(STEP) == job_port(STEP | {"SLURM_PROCID": "0"})
