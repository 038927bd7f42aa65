"""What each codec of soft targets costs and loses, on the masked positions of a teacher's own text.

python benchmarks/soft_targets.py --teacher RUN_OR_FOLDER --shards SHARDS [--positions 4000] [--repeats 5]

The teacher is a run of this project or a Hugging Face folder, the shards are of its tokenizer. For each codec:

- bytes a position;
- KL(teacher || decoded) in nats, mean over positions, in float64. Of `topk` the others are spread evenly, which is what
  a reader who knows no better has; `sampled` leaves words out, so its divergence is infinite and is not shown;
- the error of the gradient that a student gets, beside the dense gradient: of one position (root mean square), and of
  the mean over all positions. The student says the unigram. An unbiased codec's second figure falls as positions grow;
- milliseconds per thousand positions to encode and to decode, and of a student's hard and soft losses with gradients
  (its decoder as wide as the teacher's); beside them, of the hard loss alone. Of processor time on a CPU, of wall time
  on a GPU, medians of repeats in turn.

The last line is one JSON object.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import math
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from train_step import seconds

from litebert.data.loader import Loader
from litebert.data.plan import DataConfig
from litebert.data.split import Split
from litebert.distill.codecs import CodecConfig, TeacherHead, codec_of, keyed_uniforms
from litebert.distill.soft_cross_entropy import soft_linear_cross_entropy
from litebert.distill.targets import Dense, Distribution, Score, Targets, TopK
from litebert.model import PretrainingModel, from_huggingface
from litebert.model.cross_entropy import linear_cross_entropy
from litebert.plan.processor import processor
from litebert.train.commit import commit
from litebert.train.trained import load_trained

CODECS = {
    "hidden": CodecConfig("hidden"),
    "hidden, 8 bits": CodecConfig("hidden", 8),
    "head": CodecConfig("head"),
    "head, 8 bits": CodecConfig("head", 8),
    "topk 16": CodecConfig("topk", k=16),
    "topk 64": CodecConfig("topk", k=64),
    "topk 64, 8 bits": CodecConfig("topk", 8, k=64),
    "sampled 32": CodecConfig("sampled", draws=32),
    "sampled 64": CodecConfig("sampled", draws=64),
    "sampled 64^0.8": CodecConfig("sampled", draws=64, exponent=0.8),
    "sampled 64^0.8, 8 bits": CodecConfig("sampled", 8, draws=64, exponent=0.8),
    "sampled 128": CodecConfig("sampled", draws=128),
}
ROWS = 256  # positions whose distributions exist at a time in float64


def opened(teacher: Path) -> PretrainingModel:
    if (teacher / "run.json").is_file():
        return load_trained(teacher).model
    return from_huggingface(teacher).eval()


def answers(model: PretrainingModel, split: Split, positions: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The teacher's last hidden states at masked positions, [M, H], and what stood there."""
    samples = min(split.samples, 64)
    config = DataConfig(global_batch=samples, micro_tokens=max(samples, 2) * split.seq_length)
    hidden, labels, found = [], [], 0
    with torch.inference_mode():
        for step in Loader(split, config, 0, 1, 0, split.samples // samples):
            for batch in (micro_batch.to(device) for micro_batch in step.micro_batches):
                hidden.append(model.encoder(batch.ids, batch.token_types, batch.packing, batch.masked))
                labels.append(batch.labels)
                found += len(batch.labels)
            if found >= positions:
                break
    return torch.cat(hidden)[:positions], torch.cat(labels)[:positions]


def dense_logs(targets: Dense, rows: slice) -> Tensor:
    return (targets.rows_MD[rows].double() @ targets.weight_VD.double().t() + targets.bias_V.double()).log_softmax(-1)


def decoded_logs(targets: Targets, rows: slice, vocab_size: int) -> Tensor | None:
    """Log-probabilities [C, V] that decoded targets stand for; None for draws."""
    if isinstance(targets, Dense):
        return dense_logs(targets, rows)
    if isinstance(targets, TopK):
        logs_CK1 = targets.logs_MK1[rows].double()
        each_C1 = logs_CK1[:, -1:] - math.log(vocab_size - targets.ids_MK.shape[1])
        return each_C1.expand(-1, vocab_size).scatter(1, targets.ids_MK[rows], logs_CK1[:, :-1])
    return None


def gradient(score: Score, student: Distribution) -> Tensor:
    """Of the divergence, by the student's logits."""
    errors_CV = student.probabilities_CV * score.mass
    if score.ids_CN is None:
        return errors_CV - score.expected
    return errors_CV.scatter_add(1, score.ids_CN, -score.expected)


def losses(targets: Targets, exact: Dense, student_V: Tensor) -> dict[str, float | None]:
    """What is lost of the exact distributions: divergence, and the gradient's error."""
    positions = len(exact.rows_MD)
    divergence, squared, dense_squared = 0.0, 0.0, 0.0
    mean_V, dense_mean_V = torch.zeros_like(student_V), torch.zeros_like(student_V)
    known = True
    for rows in (slice(begin, begin + ROWS) for begin in range(0, positions, ROWS)):
        teacher_CV = dense_logs(exact, rows)
        student = Distribution.of(student_V.expand_as(teacher_CV))
        dense_CV = student.probabilities_CV - teacher_CV.exp()
        errors_CV = gradient(targets.score(rows, student, 1.0), student) - dense_CV
        squared += float(errors_CV.square().sum())
        dense_squared += float(dense_CV.square().sum())
        mean_V += errors_CV.sum(0)
        dense_mean_V += dense_CV.sum(0)
        if (logs_CV := decoded_logs(targets, rows, len(student_V))) is None:
            known = False
        else:
            divergence += float((teacher_CV.exp() * (teacher_CV - logs_CV)).sum())
    return {
        "kl": divergence / positions if known else None,
        "gradient_error": math.sqrt(squared / dense_squared),
        "mean_gradient_error": float(mean_V.norm() / dense_mean_V.norm()),
    }


def speeds(
    head: TeacherHead,
    hidden_MH: Tensor,
    labels_M: Tensor,
    uniforms_M2: Tensor,
    model: PretrainingModel,
    repeats: int,
) -> dict[str, dict[str, float]]:
    """Milliseconds per thousand positions."""
    device, positions = hidden_MH.device, len(hidden_MH)
    rows_ME = torch.randn(positions, model.config.embedding_size, device=device, requires_grad=True)
    weight_VE = head.weight_VE.detach().clone().requires_grad_()
    bias_V = head.bias_V.detach().clone().requires_grad_()
    student = rows_ME, weight_VE, bias_V

    def timed(config: CodecConfig) -> Iterator[tuple[str, float]]:
        codec = codec_of(config, model.config)
        columns = codec.encode(head, hidden_MH, uniforms_M2)
        targets = codec.decode(columns, head).targets
        yield "encode", seconds(lambda: codec.encode(head, hidden_MH, uniforms_M2), device)
        yield "decode", seconds(lambda: codec.decode(columns, head), device)
        yield "losses", seconds(lambda: soft_linear_cross_entropy(*student, labels_M, targets).loss.backward(), device)

    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for _ in range(repeats + 1):
        for name, config in CODECS.items():
            for part, took in timed(config):
                found[name][part].append(took)
        hard = seconds(lambda: linear_cross_entropy(*student, labels_M)[0].backward(), device)
        found["hard labels"]["losses"].append(hard)
    # The first warms up.
    return {
        name: {part: statistics.median(values[1:]) * 1e6 / positions for part, values in parts.items()}
        for name, parts in found.items()
    }


def compare(
    model: PretrainingModel, split: Split, positions: int, repeats: int, device: torch.device
) -> dict[str, Any]:
    """Every codec on the same positions: prints the table, and returns its figures."""
    config, head = model.config, TeacherHead.of(model)
    hidden_MH, labels_M = answers(model, split, positions, device)
    positions = len(labels_M)
    uniforms_M2 = keyed_uniforms(0, np.arange(positions, dtype=np.uint64), 0, np.zeros(positions, int)).to(device)
    exact = head.dense(head.transform(hidden_MH))
    student_V = torch.from_numpy(split.unigram_log_probabilities).to(device)
    loss, right = (
        each / positions for each in linear_cross_entropy(exact.rows_MD, head.weight_VE, head.bias_V, labels_M)
    )
    print(
        f"{positions:,} positions, {config.vocab_size:,} words, H = {config.hidden_size}, E = {config.embedding_size}"
    )
    print(f"the teacher's loss {loss:.3f} nats, its accuracy {right:.1%}")
    took = speeds(head, hidden_MH, labels_M, uniforms_M2, model, repeats)
    rows: dict[str, dict[str, Any]] = {}
    print(f"{'':22} {'bytes':>6} {'KL':>9} {'gradient':>9} {'its mean':>9} {'encode':>8} {'decode':>8} {'losses':>8}")
    for name, codec_config in CODECS.items():
        codec = codec_of(codec_config, config)
        targets = codec.decode(codec.encode(head, hidden_MH, uniforms_M2), head).targets
        row = {"bytes": codec.bytes_per_position, **losses(targets, exact, student_V), **took[name]}
        kl = "-" if row["kl"] is None else f"{row['kl']:.2g}"
        print(
            f"{name:22} {row['bytes']:6} {kl:>9} {row['gradient_error']:9.2g} {row['mean_gradient_error']:9.2g} "
            f"{row['encode']:8.2f} {row['decode']:8.3f} {row['losses']:8.2f}",
            flush=True,
        )
        rows[name] = row
    print(f"{'hard labels':22} {took['hard labels']['losses']:62.2f}")
    teacher = {"vocab_size": config.vocab_size, "hidden_size": config.hidden_size, "loss": float(loss)}
    return {"codecs": rows, "hard_labels": took["hard labels"], "positions": positions, "teacher": teacher}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--teacher", type=Path, required=True, help="a run, or a Hugging Face folder")
    parser.add_argument("--shards", type=Path, required=True, help="of the teacher's tokenizer")
    parser.add_argument("--split", default="heldout")
    parser.add_argument("--positions", type=int, default=4000, help="masked ones, at most")
    parser.add_argument("--repeats", type=int, default=5, help="that are timed")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model, split = opened(options.teacher).to(device), Split(options.shards, options.split)
        if split.vocab_size != model.config.vocab_size:
            raise ValueError(
                f"{options.shards} has {split.vocab_size} ids, {options.teacher} {model.config.vocab_size}: "
                "build the shards with the teacher's tokenizer"
            )
    except (ValueError, OSError) as error:
        print(f"soft_targets: {error}", file=sys.stderr)
        return 2
    hardware = torch.cuda.get_device_name() if device.type == "cuda" else processor()
    print(f"{hardware}, {torch.get_num_threads()} threads")
    figures = compare(model.requires_grad_(False), split, options.positions, options.repeats, device)
    print(json.dumps({**figures, "processor": hardware, "torch": torch.__version__, "commit": commit()}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
