"""Held-out figures beside a walk through the samples, one at a time, in float64."""

import json

import numpy as np
import pytest
import torch

from data_tools.build import BuildConfig, build
from data_tools.samples.pairs import PairConfig
from data_tools.shards.assembly import ShardConfig
from data_tools.text.tokenizer import CLS, SEP
from litebert.data.split import Split
from litebert.evaluate.heldout import evaluate_heldout, wilson_interval
from litebert.model.attention import Packing
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel


@pytest.fixture(scope="module")
def model(shards) -> PretrainingModel:
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=Split(shards, "train").vocab_size,
        hidden_size=32,
        embedding_size=16,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        sharing="all",
        initializer_range=0.5,  # far from uniform guesses
    )
    return PretrainingModel(config).eval()


def walked(model, split):
    """Sums over the samples of a split: loss and hits of masked tokens, hits of pairs, and how many there are."""
    losses, hits, masked, pair_hits, pairs = 0.0, 0, 0, 0, 0
    for number in range(len(split.block_samples)):
        block = split.block(number, 0)
        for row in range(len(block.samples)):
            one = block.take(np.array([row]))
            ids = torch.from_numpy(one.samples.ids.astype(np.int64))
            places = torch.from_numpy(one.masks.positions)
            labels = ids[places].clone()
            ids[places] = torch.from_numpy(one.masks.inputs.astype(np.int64))
            types = (torch.arange(len(ids)) >= int(one.samples.first[0]) + 2).long()
            output = model(ids, types, Packing.of([len(ids)]), places)
            log_probabilities = output.mlm_logits_MV.log_softmax(-1)
            losses -= float(log_probabilities.gather(1, labels[:, None]).sum())
            hits += int((log_probabilities.argmax(-1) == labels).sum())
            masked += len(labels)
            if (order := int(one.samples.order[0])) >= 0:
                pair_hits += int(output.pair_logits_B2.argmax()) == order
                pairs += 1
    return losses / masked, hits / masked, pair_hits / max(1, pairs), masked, pairs


def test_figures_equal_a_walk_through_the_samples(model, shards):
    train, heldout = Split(shards, "train"), Split(shards, "heldout")
    figures = evaluate_heldout(model, train, heldout, torch.device("cpu"))
    with torch.inference_mode():
        loss, accuracy, sop, masked, pairs = walked(model.double(), heldout)
    model.float()
    assert figures.samples == heldout.samples
    assert (figures.masked_tokens, figures.pairs) == (masked, pairs)
    assert figures.mlm_loss == pytest.approx(loss, abs=1e-4)
    assert figures.mlm_accuracy == pytest.approx(accuracy, abs=1e-6)
    assert figures.sop_accuracy == pytest.approx(sop, abs=1e-6)
    assert figures.parameters == sum(parameter.numel() for parameter in model.parameters())


def test_pairs_of_another_kind_are_named_as_what_they_are(model, corpus, tokenizer_folder, tmp_path):
    shards = ShardConfig(samples_per_shard=400, samples_per_block=50, heldout_share=0.3)
    for kind in ("nsp", "none"):
        config = BuildConfig(pairs=PairConfig(seq_length=64, objective=kind), shards=shards)
        build([corpus], tokenizer_folder, tmp_path / kind, config)
        train, heldout = Split(tmp_path / kind, "train"), Split(tmp_path / kind, "heldout")
        figures = evaluate_heldout(model, train, heldout, torch.device("cpu"))
        with torch.inference_mode():
            loss, _, told, _, pairs = walked(model, heldout)
        assert heldout.pairs == kind and figures.pairs == pairs and (pairs > 300) == (kind == "nsp")
        assert figures.mlm_loss == pytest.approx(loss, abs=1e-4)
        assert figures.sop_accuracy is figures.sop_interval is None
        assert figures.nsp_accuracy == (pytest.approx(told, abs=1e-6) if kind == "nsp" else None)


def test_unigram_baseline_is_a_count_of_tokens(model, shards):
    train, heldout = Split(shards, "train"), Split(shards, "heldout")
    counts = np.ones(train.vocab_size)
    for number in range(len(train.block_samples)):
        ids = train.block(number, 0).samples.ids
        np.add.at(counts, ids[(ids != CLS) & (ids != SEP)], 1)
    guess = -np.log(counts / counts.sum())
    text, masked = [], []
    for number in range(len(heldout.block_samples)):
        block = heldout.block(number, 0)
        ids = block.samples.ids
        text.append(guess[ids[(ids != CLS) & (ids != SEP)]])
        begins = np.cumsum(block.samples.lengths) - block.samples.lengths
        masked.append(guess[ids[np.repeat(begins, block.masks.counts) + block.masks.positions]])
    figures = evaluate_heldout(model, train, heldout, torch.device("cpu"))
    assert figures.unigram_loss == pytest.approx(np.concatenate(text).mean(), abs=1e-9)
    assert figures.unigram_loss_masked == pytest.approx(np.concatenate(masked).mean(), abs=1e-9)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(8, 10, 0.4902, 0.9433), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (50, 100, 0.4038, 0.5962), (0, 0, 0, 1)],
)
def test_wilson_interval_is_the_one_of_the_tables(successes, trials, low, high):
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=1e-4)


def test_samples_that_are_all_full_are_measured_too(model, corpus, tokenizer_folder, tmp_path):
    """Text without a sentence end: every sample is as long as it may be, and a batch needs several micro-batches."""
    texts = [json.loads(line)["text"].translate({ord(mark): "，" for mark in "。！？；…\n"}) for line in corpus.open()]
    (tmp_path / "flat.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    config = BuildConfig(pairs=PairConfig(seq_length=64), shards=ShardConfig(heldout_share=0.3))
    build([tmp_path / "flat.jsonl"], tokenizer_folder, tmp_path / "shards", config)
    train, heldout = Split(tmp_path / "shards", "train"), Split(tmp_path / "shards", "heldout")
    assert np.mean(np.asarray(heldout.lengths) > 60) > 0.7
    figures = evaluate_heldout(model, train, heldout, torch.device("cpu"))
    with torch.inference_mode():
        loss, accuracy, _, masked, pairs = walked(model, heldout)
    assert (figures.masked_tokens, figures.pairs, figures.samples) == (masked, pairs, heldout.samples)
    assert figures.mlm_loss == pytest.approx(loss, abs=1e-4)
    assert figures.mlm_accuracy == pytest.approx(accuracy, abs=1e-6)
