"""Two nodes with addresses of their own: DeepSpeed's launcher over ssh, and a fleet whose link is cut."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.verify import verify
from tests.cluster.jobs import wait_until
from tests.cluster.namespaces import Nodes, nodes_or_skip
from tests.distributed.bench import REPOSITORY, Bench, environment
from tests.distributed.test_distillation import STUDENT, TEACHER

pytestmark = pytest.mark.distributed

STEPS = 40
MANY = 300  # more than a student has answers for when the link is cut
CUT = 30.0  # seconds


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with nodes_or_skip(tmp_path_factory.mktemp("nodes")).up() as made:
        yield made


@pytest.fixture(scope="module")
def small_blocks(bench: Bench) -> Path:
    """Shards of which a student wants blocks all the time; and a teacher, trained for some steps."""
    build = ["--input", "corpus.jsonl", "--tokenizer", "tokenizer", "--output", "small_blocks"]
    command = [sys.executable, "-m", "data_tools", "build", *build, "--shards.samples_per_block", "4"]
    subprocess.run(command, cwd=bench.folder, env=environment(), check=True, capture_output=True)
    assert bench.group(1, [{"arguments": bench.arguments("teacher", *TEACHER)}])[0] == [0]
    return bench.folder / "small_blocks"


def student(bench: Bench, run: str, shards: Path, steps: int, *source: object) -> list[str]:
    """Arguments of distill.py."""
    own = ("--objective.mlm", "2", "--distill.start", "random", "--distill.patience", "120")
    length = ("--train.steps", str(steps), "--train.checkpoint_every", "10")
    return [*bench.arguments(run, *STUDENT, *own, *length), "--data", str(shards), *map(str, source)]


def test_deepspeed_starts_ranks_on_both_nodes(nodes: Nodes, bench: Bench, small_blocks: Path) -> None:
    """`deepspeed --hostfile hosts --launcher pdsh launcher/distill.py`: the weights of two ranks of one machine."""
    teacher = ("--teacher", bench.run("teacher"))
    (nodes.folder / ".deepspeed_env").write_text("OMP_NUM_THREADS=1\nDS_ACCELERATOR=cpu\nCUDA_VISIBLE_DEVICES=\n")
    front = [str(Path(sys.executable).with_name("deepspeed")), "--hostfile", str(nodes.hostfile), "--launcher", "pdsh"]
    script = [str(REPOSITORY / "launcher/distill.py"), *student(bench, "two_nodes", small_blocks, STEPS, *teacher)]
    given = environment(HOME=nodes.folder)
    log = nodes.folder / "pdsh.log"
    with log.open("w") as out:
        job = nodes.start("alpha", [*front, *script], env=given, cwd=nodes.folder, stdout=out, stderr=out)
        assert job.wait(300) == 0, log.read_text()[-4000:]
    assert "beta: " in log.read_text(), "pdsh says which node a line is from"
    (outcome,), told = bench.group(2, [{"arguments": student(bench, "one_machine", small_blocks, STEPS, *teacher)}])
    assert outcome == 0, told
    assert bench.hashes("two_nodes", STEPS) == bench.hashes("one_machine", STEPS)
    assert bench.metrics("two_nodes") == bench.metrics("one_machine")


def test_a_link_that_is_cut_for_half_a_minute_delays_a_student_and_changes_nothing(
    nodes: Nodes, bench: Bench, small_blocks: Path
) -> None:
    """A teacher on one node, a student on the other."""
    fleet, log = nodes.folder / "fleet", nodes.folder / "fleet.log"
    launcher = [sys.executable, str(REPOSITORY / "launcher/teach.py"), "--data", str(small_blocks)]
    listening = ["--serve", str(fleet), "--host", "0.0.0.0", "--advertise", "alpha", "--codec.kind", "hidden"]
    given = environment(DS_ACCELERATOR="cpu")
    running: list[subprocess.Popen[bytes]] = []

    def learning(run: str, out: object) -> subprocess.Popen[bytes]:
        command = [sys.executable, str(REPOSITORY / "launcher/distill.py")]
        command += student(bench, run, small_blocks, MANY, "--fleet", fleet)
        return nodes.start("beta", command, env=given, stdout=out, stderr=out)

    with log.open("w") as out:
        try:
            teacher = [*launcher, "--teacher", str(bench.run("teacher")), *listening]
            running.append(nodes.start("alpha", teacher, env=given, stdout=out, stderr=out))
            calm = learning("calm", out)
            running.append(calm)
            assert calm.wait(300) == 0, log.read_text()[-4000:]
            cut = learning("cut", out)
            running.append(cut)
            wait_until(lambda: steps_of(bench, "cut") >= 3)
            nodes.cable(1, False)
            time.sleep(CUT / 2)
            stuck = steps_of(bench, "cut")
            time.sleep(CUT / 2)
            assert steps_of(bench, "cut") == stuck < MANY, "without a teacher there is nothing to learn from"
            nodes.cable(1, True)
            assert cut.wait(300) == 0, log.read_text()[-4000:]
        finally:
            for process in running:
                process.kill()
                process.wait()
    assert bench.hashes("cut", MANY) == bench.hashes("calm", MANY)
    assert bench.metrics("cut") == bench.metrics("calm")
    lines, sound = verify(bench.run("cut"), [])
    assert sound, "\n".join(lines)


def steps_of(bench: Bench, run: str) -> int:
    """Steps whose lines were written so far."""
    path = bench.run(run) / "metrics.jsonl"
    return len(path.read_text().splitlines()) if path.exists() else 0
