"""What is said of clusters with something wrong, made up; and of this machine, looked at by real processes."""

from __future__ import annotations

import dataclasses
import itertools
import os
import re
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

from litebert.cluster.diagnosis import problems, table
from litebert.cluster.probes import HEALTH, Facts, Links, faults, rounds, sight, told
from litebert.train.world import Channel
from tests.distributed.bench import environment, free_port

REPOSITORY = Path(__file__).parents[3]
VERSIONS = {"torch": "2.13.0", "interpreter": "/venv/bin/python"}
NODES = ("n1", "n2", "n3", "n4")
FACTS = [Facts(rank, NODES[rank // 2], "H100", VERSIONS, 0.002, 0.001, "", [], 6e14, []) for rank in range(8)]
LINKS = Links(300e9, dict.fromkeys(itertools.combinations(NODES, 2), 40e9))


def changed(rank: int, **fields: object) -> list[Facts]:
    return [dataclasses.replace(each, **fields) if each.rank == rank else each for each in FACTS]  # type: ignore[arg-type]


def test_a_sound_cluster_has_nothing_to_mend() -> None:
    assert problems(FACTS, LINKS, "/runs") == []
    lines = table(FACTS, LINKS)
    assert len(lines) == 1 + 4 + 2 and "600.000" in lines[1] and "+2.0 ms" in lines[1]
    assert "300.00 GB/s" in lines[5] and "40.00 GB/s (40.00 to 40.00), 6 pairs" in lines[6]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"versions": {**VERSIONS, "torch": "2.12.1"}}, "2.13.0 on n1, n2, n3, n4; 2.12.1 on n3: start all ranks"),
        ({"versions": {"interpreter": "/venv/bin/python"}}, "torch is not the same everywhere: .* missing on n3"),
        ({"clock": -90.0}, "the clock of n3 is 90.0 s behind that of n1"),
        ({"unseen": [0, 1, 2]}, "n3 does not see what n1, n2 wrote to /runs: is it really shared"),
        (
            {"unwritten": "[Errno 30] Read-only"},
            "n3 cannot write to /runs .*30. Read-only.: mend that, or name another",
        ),
        ({"matrix": 4e14}, "n3 is slow: rank 4 computes at 67% of the median.*--exclude=n3"),
        ({"faults": ["slowed down"]}, "n3, device of rank 4: slowed down"),
    ],
)
def test_what_is_wrong_is_named_with_its_node(fields: dict[str, object], words: str) -> None:
    (line,) = problems(changed(4, **fields), LINKS, "/runs")
    assert re.search(words, line), line


def test_what_is_within_measuring_is_not_wrong() -> None:
    assert not problems(changed(4, clock=3.0, within=2.5, matrix=5.5e14), LINKS, "/runs")
    assert not problems(changed(4, versions={**VERSIONS, "interpreter": "/other/python"}), LINKS, "/runs")


def test_a_slow_link_is_told_from_a_node_whose_links_are_all_slow() -> None:
    one = Links(0.0, LINKS.pairs | {("n2", "n4"): 4e9})
    assert problems(FACTS, one, "/runs") == ["the link between n2 and n4 is slow, 10% of the median"]
    pairs = list(itertools.combinations([*NODES, "n5", "n6"], 2))
    node = Links(0.0, {pair: 8e9 if "n2" in pair else 40e9 for pair in pairs})
    assert problems(FACTS, node, "/runs") == ["all links of n2 are slow, at most 20% of the median"]


@pytest.mark.parametrize("count", [1, 2, 3, 8, 9])
def test_every_two_nodes_meet_once_and_none_twice_at_a_time(count: int) -> None:
    found = rounds(count)
    assert sorted(itertools.chain(*found)) == list(itertools.combinations(range(count), 2))
    assert all(len({place for pair in pairs for place in pair}) == 2 * len(pairs) for pairs in found)


def test_what_nvidia_smi_says() -> None:
    assert told("0, No, Not Active\n") == [] == told("[N/A], [N/A], Not Active")
    assert told("3, No, Active") == [
        f"{list(HEALTH.values())[place]} ({value})" for place, value in ((0, 3), (2, "Active"))
    ]
    assert "has not the 3 fields" in told("no devices were found")[0]


def test_nvidia_smi_is_asked_for_the_gpu_that_cuda_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has the third and the first of a node's GPUs; the second is another's, and is ill."""
    smi = tmp_path / "nvidia-smi"
    smi.write_text(
        "#!/bin/bash\n"
        'case "$*" in\n'
        f'    "--query-gpu={",".join(HEALTH)} --format=csv,noheader,nounits --id=GPU-c3") echo 3, No, Not Active ;;\n'
        "    *--id=GPU-a1) echo 0, No, Not Active ;;\n"
        "    *--id=GPU-b2 | *--id=1) echo 9, Yes, Active ;;\n"
        "    *) echo No devices were found; exit 6 ;;\n"
        "esac\n"
    )
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    visible = [SimpleNamespace(uuid="c3"), SimpleNamespace(uuid="a1")]
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: visible[device.index])
    assert faults(torch.device("cuda", 0)) == [f"{next(iter(HEALTH.values()))} (3)"]
    assert faults(torch.device("cuda", 1)) == []
    visible[1].uuid = "d4"
    assert faults(torch.device("cuda", 1)) == ["nvidia-smi: No devices were found"]


class Alone:
    """The channel of one process."""

    rank, size = 0, 1

    def broadcast(self, number: int) -> int:
        return number

    def gather(self, text: str) -> list[str]:
        return [text]

    def barrier(self) -> None:
        pass


def test_a_file_that_could_not_be_filled_is_told_and_taken_away(tmp_path: Path) -> None:
    """As on a full disk: it is there, and empty."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        unwritten, unseen = sight(tmp_path, cast(Channel, Alone()))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert unwritten.endswith("File too large") and unseen == [] and not list(tmp_path.iterdir())
    assert sight(tmp_path, cast(Channel, Alone())) == ("", []) and not list(tmp_path.iterdir())


def ranks(folders: dict[int, Path], **changes: object) -> list[tuple[int, str, str]]:
    """What ranks that are really started end with and say, of two if nothing else is told, each with its folder."""
    given = {"WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()} | changes
    processes = [
        subprocess.Popen(
            [sys.executable, "launcher/doctor.py", "--shared", str(folder)],
            cwd=REPOSITORY,
            env=environment(**given, RANK=rank, LOCAL_RANK=rank),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank, folder in folders.items()
    ]
    try:
        said = [process.communicate(timeout=300) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


@pytest.mark.distributed
@pytest.mark.parametrize(
    ("present", "words"),
    [([0, 1], "of 3 ranks 2 did not come to 127.0.0.1:"), ([2], "rank 2 cannot reach rank 0 at 127.0.0.1:")],
)
def test_who_did_not_come_is_named_in_one_line(tmp_path: Path, present: list[int], words: str) -> None:
    ended = ranks(dict.fromkeys(present, tmp_path), WORLD_SIZE=3, RENDEZVOUS_SECONDS=12)
    assert [code for code, _, _ in ended] == [2] * len(present)
    lines = [line for _, _, said in ended for line in said.splitlines() if line.startswith(("doctor: ", "Traceback"))]
    assert len(lines) == 1 and lines[0].startswith(f"doctor: {words}"), lines


@pytest.mark.distributed
def test_a_rank_that_cannot_write_is_named_once_and_nothing_is_left_behind(tmp_path: Path) -> None:
    """What rank 1 has for a folder would lie below a file."""
    (tmp_path / "file").touch()
    (first, said, _), (second, silence, errors) = ranks({0: tmp_path / "runs", 1: tmp_path / "file" / "runs"})
    (line,) = [line for line in said.splitlines() if "cannot write to" in line]
    assert line.startswith("mend: ") and "[Errno 20] Not a directory" in line
    assert (first, second) == (1, 1) and not silence and "doctor:" not in errors
    assert not list((tmp_path / "runs").iterdir())


@pytest.mark.distributed
def test_real_processes_find_each_other_well(tmp_path: Path) -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3", "launcher/doctor.py"]
    command = [sys.executable, *launch, "--shared", str(tmp_path)]
    done = subprocess.run(command, cwd=REPOSITORY, env=environment(), capture_output=True, text=True, timeout=300)
    assert "all-reduce of all 3 ranks" in done.stdout, done.stderr
    assert "3  " in next(line for line in done.stdout.splitlines() if "TFLOP" not in line and " ms" in line)
    assert not list(tmp_path.iterdir()), "what it wrote is taken away"
    wrong = [line for line in done.stdout.splitlines() if line.startswith("mend:")]
    assert all("is slow" in line for line in wrong), "of one machine with other work no more can be wrong"
    assert done.returncode == bool(wrong)
