"""Text to masked shards, on one core: how fast, what bounds it, and beside it what others have.

python benchmarks/data.py [--text FILE...] [--vocab vocab.txt] [--tokenizer FOLDER] [--peers] [--quick]

Everything runs on the same documents, in turn, --repeats times. MB are of the UTF-8 text that goes in, seconds of
processor time of all processes together, so that others on the machine do not count; two workers are beside one in wall
time, and so are two builds that have nothing to do with each other: more than these could not come of two workers on
these cores. Without --text it is the demo's text, without --tokenizer one is learnt from the text. --vocab is BERT's
Chinese vocab.txt: for WordPiece, and for the peers. --peers installs Google's script with TensorFlow (1.6 GB) into a
virtual environment in the cache folder. The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}

import argparse
import dataclasses
import json
import multiprocessing
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np
import rjieba
from costs import Costs, Sampler, in_turn

from data_tools.build import BuildConfig, build
from data_tools.documents.document import Document
from data_tools.documents.files import find_files
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from data_tools.documents.selection import cleaned
from data_tools.samples.masks import MaskConfig
from data_tools.shards.cache import cache_folder
from data_tools.text.huggingface import load_tokenizer, save_tokenizer
from data_tools.text.interface import TextTokenizer
from data_tools.text.sentences import code_points
from data_tools.text.tokenizer import Tokenizer
from data_tools.text.training import TokenizerConfig, train
from data_tools.text.wordpiece import WordPiece
from data_tools.text.words import WordsConfig
from litebert.demo.corpus import documents, fetch
from litebert.plan.processor import processor
from litebert.train.commit import commit

COPIES, TWICE = 4, "two builds at once"
OVER_PIECES = BuildConfig(masks=MaskConfig(strategy="ngram"), words=WordsConfig(segmenter="none"))
FORKED = multiprocessing.get_context("fork")
LIBRARIES = {"tokenizers", "transformers", "sentencepiece", "rjieba", "numpy", "webdataset"}


def texts_of(inputs: list[Path] | None) -> Iterator[str]:
    """The documents of the text."""
    if inputs is None:
        for record in documents(fetch(cache_folder())):
            yield record["text"]
    else:
        for item in read_documents(find_files(inputs), ReaderConfig()):
            if isinstance(item, Document):
                yield item.text


def first(texts: Iterator[str] | list[str], megabytes: float) -> list[str]:
    """As many of the documents, evenly from all of them, as are so large together."""
    texts = list(texts)
    size = sum(len(text.encode()) for text in texts) / 1e6
    step = max(1.0, size / megabytes)
    return [texts[int(number * step)] for number in range(int(len(texts) / step))]


def size_of(texts: list[str]) -> float:
    """In megabytes of UTF-8."""
    return sum(len(text.encode()) for text in texts) / 1e6


def written(texts: list[str], path: Path) -> Path:
    """The documents as a jsonl."""
    with path.open("w", encoding="utf-8") as stream:
        stream.writelines(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts)
    return path


@dataclasses.dataclass(frozen=True)
class Bench:
    """What every build here has in common.

    Attributes:
        texts: documents.
        file: they as a jsonl.
        folder: for what is built.
        repeats: of each.
    """

    texts: list[str]
    file: Path
    folder: Path
    repeats: int

    @property
    def megabytes(self) -> float:
        """Of the text."""
        return size_of(self.texts)

    def build(self, tokenizer: Path, config: BuildConfig, workers: int = 1, name: str = "shards") -> Callable[[], None]:
        """Shards of the text, which are removed again."""

        def work() -> None:
            build([self.file], tokenizer, self.folder / name, config, workers)
            shutil.rmtree(self.folder / name)

        return work

    def twice(self, tokenizer: Path, config: BuildConfig) -> Callable[[], None]:
        """Two builds at once that have nothing to do with each other."""

        def work() -> None:
            names = ("shards-one", "shards-other")
            both = [FORKED.Process(target=self.build(tokenizer, config, name=name)) for name in names]
            for process in both:
                process.start()
            for process in both:
                process.join()
                assert process.exitcode == 0, "a build failed"

        return work


def builds(bench: Bench, tokenizers: dict[str, Path]) -> dict[str, Costs]:
    """Whole builds, in turn."""
    copies = dataclasses.replace(BuildConfig(), masks=MaskConfig(copies=COPIES))
    entries = {}
    for name, folder in tokenizers.items():
        entries[f"{name}, words"] = bench.build(folder, BuildConfig())
        entries[f"{name}, n-grams of pieces"] = bench.build(folder, OVER_PIECES)
    name, folder = next(iter(tokenizers.items()))
    entries[f"{name}, words, {COPIES} copies"] = bench.build(folder, copies)
    entries[f"{name}, words, 2 workers"] = bench.build(folder, BuildConfig(), workers=2)
    entries[TWICE] = bench.twice(folder, BuildConfig())
    return in_turn(entries, bench.repeats)


def floors(texts: list[str], tokenizer: TextTokenizer, repeats: int) -> dict[str, Costs]:
    """The steps that others' libraries do, alone, on the text as it reaches them; and a look-up for every character."""
    canonical, reasons = cleaned(texts, tokenizer, BuildConfig().clean, BuildConfig().filter)
    kept = [text.replace("\n", " ") for text, reason in zip(canonical, reasons, strict=True) if not reason]
    table = np.arange(0x110000, dtype=np.uint32)

    def segmentation() -> None:
        for text in kept:
            rjieba.cut(text)

    def look_up() -> None:
        for text in kept:
            table.take(code_points(text)).tobytes().decode("utf-32-le")

    entries: dict[str, Callable[[], object]] = {"rjieba": segmentation, "look-up": look_up}
    if isinstance(tokenizer, Tokenizer):
        parts = [part for text in kept for part in tokenizer.parts(text)]
        entries["SentencePiece"] = lambda: tokenizer._processor.encode(parts, out_type="numpy", num_threads=1)
    return in_turn(entries, repeats)


def profile(bench: Bench, name: str, folder: Path) -> dict[str, dict[str, float]]:
    """Where the processor's time goes in a build, and how far each stage is from what bounds it."""
    work = bench.build(folder, BuildConfig())
    with Sampler() as sampler:
        for _ in range(bench.repeats):
            work()
    bounds = floors(bench.texts, load_tokenizer(folder), bench.repeats)
    total = sum(sampler.seconds.values())
    print(f"\n{name}, words: where a build's time goes, ms a MB, share, times what bounds it")
    figures = {}
    for stage, seconds in sorted(sampler.seconds.items(), key=lambda entry: -entry[1]):
        milliseconds = 1000 * seconds / bench.repeats / bench.megabytes
        bound = {"words": "rjieba", "pieces": "SentencePiece"}.get(stage, "look-up")
        bound = bound if bound in bounds else "look-up"
        times = milliseconds / (1000 * bounds[bound].cpu / bench.megabytes)
        print(f"{stage:12} {milliseconds:8.2f} {seconds / total:6.1%} {times:8.2f}x {bound} alone")
        figures[stage] = {"ms_per_mb": round(milliseconds, 2), f"times_{bound.lower()}": round(times, 2)}
    for bound, costs in bounds.items():
        print(f"{bound + ' alone':22} {bench.megabytes / costs.cpu:8.1f} MB/s")
        figures[f"{bound} alone"] = {"mb_per_s": round(bench.megabytes / costs.cpu, 1)}
    return figures


def table(title: str, costs: dict[str, Costs], megabytes: float) -> dict[str, dict[str, float]]:
    """Print speeds, and give them back."""
    print(f"\n{title}: MB/s of processor time, median (least to most); of wall time")
    figures = {}
    for name, cost in costs.items():
        speeds = sorted(megabytes / seconds for seconds in cost.cpus)
        wall = megabytes / cost.wall
        print(f"{name:44} {megabytes / cost.cpu:8.2f} ({speeds[0]:.2f} to {speeds[-1]:.2f}) {wall:8.2f}")
        figures[name] = {
            "mb_per_s": round(megabytes / cost.cpu, 2),
            "least": round(speeds[0], 2),
            "most": round(speeds[-1], 2),
            "wall_mb_per_s": round(wall, 2),
        }
    return figures


def ratio_vs_tokenizers(vocab: Path, text: Path, characters: int, repeats: int) -> float:
    """What ``benchmarks/wordpiece.py`` says."""
    command = [sys.executable, str(Path(__file__).with_name("wordpiece.py")), "--vocab", str(vocab)]
    command += ["--input", str(text), "--characters", str(characters), "--repeats", str(repeats)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return float(json.loads(output.splitlines()[-1])["ratio_vs_tokenizers"])


def tokenizers_of(options: argparse.Namespace, texts: list[str], folder: Path) -> dict[str, Path]:
    """Folders by kind: the one given, or one learnt from the text; and WordPiece, if there is its vocabulary."""
    found: dict[str, Path] = {}
    if options.tokenizer:
        found[load_tokenizer(options.tokenizer).KIND] = options.tokenizer
    else:
        config = TokenizerConfig(vocab_size=8000, character_coverage=0.98 if options.quick else 0.9995)
        sample = first(texts, 0.5 if options.quick else 6)
        save_tokenizer(Tokenizer(train(sample, config), "the trained model"), folder / "sentencepiece")
        found["sentencepiece"] = folder / "sentencepiece"
    if options.vocab:
        save_tokenizer(WordPiece(options.vocab.read_bytes(), str(options.vocab)), folder / "wordpiece")
        found["wordpiece"] = folder / "wordpiece"
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, nargs="+", help="corpus files of any form")
    parser.add_argument("--tokenizer", type=Path, help="folder of a SentencePiece tokenizer")
    parser.add_argument("--vocab", type=Path, help="BERT's vocab.txt")
    parser.add_argument(
        "--megabytes",
        type=float,
        default=96,
        help="of text, evenly from all of it; a build's start takes most of a second",
    )
    parser.add_argument("--peer-megabytes", type=float, default=4, help="of text for the peers, which are slow")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--peers", action="store_true", help="Google's script too")
    parser.add_argument("--quick", action="store_true", help="little text, once: does it run?")
    options = parser.parse_args()
    if options.quick:
        options.megabytes, options.peer_megabytes, options.repeats = 0.5, 0.1, 1
    with tempfile.TemporaryDirectory() as folder:
        print(json.dumps(report(options, Path(folder))))


def report(options: argparse.Namespace, folder: Path) -> dict[str, object]:
    """Everything, printed as it comes; the figures to keep are given back."""
    import peers  # not for the workers, which import this file and have no use for transformers

    texts = first(texts_of(options.text), options.megabytes)
    bench = Bench(texts, written(texts, folder / "text.jsonl"), folder, options.repeats)
    tokenizers = tokenizers_of(options, texts, folder)
    main_kind, main_folder = next(iter(tokenizers.items()))
    print(f"{len(texts):,} documents, {bench.megabytes:.1f} MB, {options.repeats} repeats, {processor()}")
    costs = builds(bench, tokenizers)
    whole, double = costs[f"{main_kind}, words"], costs[f"{main_kind}, words, 2 workers"]
    copied, together = costs[f"{main_kind}, words, {COPIES} copies"], costs.pop(TWICE)
    figures: dict[str, object] = {"builds": table("text to shards", costs, bench.megabytes)}
    pieces = costs[f"{main_kind}, n-grams of pieces"]
    kept: dict[str, float | None] = {
        "mb_per_s_per_core": round(bench.megabytes / whole.cpu, 2),
        "mb_per_s_per_core_ngram_pieces": round(bench.megabytes / pieces.cpu, 2),
        "two_workers_ratio": round(_median_ratio(whole.walls, double.walls), 2),
        "two_builds_ratio": round(2 * _median_ratio(whole.walls, together.walls), 2),
        "copy_share": round((_median_ratio(copied.cpus, whole.cpus) - 1) / (COPIES - 1), 3),
        "ratio_vs_tokenizers": None,
    }
    figures["profile"] = {name: profile(bench, name, path) for name, path in tokenizers.items()}
    some = first(texts, options.peer_megabytes)
    beside = Bench(some, written(some, folder / "some.jsonl"), folder, options.repeats)
    if options.vocab:
        kept["ratio_vs_tokenizers"] = ratio_vs_tokenizers(options.vocab, bench.file, 8_000_000, options.repeats)
        entries: dict[str, Callable[[], object]] = {
            "ours, text to shards": beside.build(tokenizers["wordpiece"], BuildConfig())
        }
        entries |= peers.hugging_face(some, tokenizers["wordpiece"])
        if options.peers:
            entries |= peers.google(some, options.vocab, folder, cache_folder() / "benchmarks")
        found = peers.without_start(in_turn(entries, options.repeats))
        figures["peers"] = table("beside others, the same documents", found, size_of(some))
    else:
        print("\npeers, WordPiece: skipped, there is no --vocab")
    if not options.peers:
        print(f"{peers.GOOGLE}: skipped, there is no --peers")
    figures["webdataset"] = peers.webdataset(beside.file, main_folder, folder, options.repeats)
    print("\n" + ", ".join(f"{name} {value}" for name, value in kept.items()))
    versions = {name: version(name) for name in sorted(LIBRARIES)} | {"python": platform.python_version()}
    machine = {"processor": processor(), "cores": os.cpu_count(), "versions": versions, "commit": commit()}
    return {**kept, "megabytes": round(bench.megabytes, 1), "repeats": options.repeats, **figures, **machine}


def _median_ratio(left: list[float], right: list[float]) -> float:
    """Of runs that stood next to each other in time."""
    return statistics.median(one / other for one, other in zip(left, right, strict=True))


if __name__ == "__main__":
    main()
