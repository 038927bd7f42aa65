"""Figures by group, and of strangers, beside walks through the samples, one at a time."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from data_tools.build import BuildConfig, build
from data_tools.samples.masks import MaskConfig
from data_tools.samples.pairs import PairConfig
from data_tools.shards.assembly import ShardConfig
from data_tools.shards.blocks import Block, join
from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import TextTokenizer
from litebert.data.split import Split
from litebert.evaluate.groups import Groups
from litebert.evaluate.heldout import evaluate_heldout, wilson_interval
from litebert.evaluate.intrinsic import Intrinsic, evaluate_intrinsic, groups_table
from litebert.evaluate.parts import parts
from litebert.evaluate.strangers import strangers
from litebert.model.attention import Packing
from litebert.model.encoder import ModelConfig
from litebert.model.heads import PretrainingModel

CPU = torch.device("cpu")
SHARDS = ShardConfig(samples_per_shard=400, samples_per_block=50, heldout_share=0.3)
KINDS = {
    "sentencepiece": BuildConfig(pairs=PairConfig(seq_length=64), shards=SHARDS),
    "wordpiece": BuildConfig(pairs=PairConfig(seq_length=64), shards=SHARDS, masks=MaskConfig("token")),
}


@pytest.fixture(scope="module", params=KINDS)
def folder(request, corpus: Path, tmp_path_factory) -> Path:
    """Documents of three sources; masked by words, and by tokens of another vocabulary, which mask words in part."""
    made = tmp_path_factory.mktemp("intrinsic")
    lines = [json.loads(line) | {"source": f"s{n % 3}"} for n, line in enumerate(corpus.read_text().splitlines())]
    (made / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    tokenizer = request.getfixturevalue("tokenizer_folder" if request.param == "sentencepiece" else "wordpiece_folder")
    build([made / "corpus.jsonl"], tokenizer, made / "shards", KINDS[request.param])
    return made / "shards"


@pytest.fixture(scope="module")
def splits(folder: Path) -> tuple[Split, Split, TextTokenizer]:
    return Split(folder, "train"), Split(folder, "heldout"), load_tokenizer(folder / "tokenizer")


def small(train: Split, pooler: bool = True) -> PretrainingModel:
    """Of random weights, but inclined to the commonest tokens, so that it is right now and then."""
    torch.manual_seed(0)
    config = ModelConfig(
        vocab_size=train.vocab_size,
        hidden_size=32,
        embedding_size=16,
        num_layers=2,
        num_heads=2,
        intermediate_size=64,
        initializer_range=0.5,  # far from uniform guesses
        pooler=pooler,
    )
    made = PretrainingModel(config).eval()
    with torch.no_grad():
        made.mlm.bias.copy_(torch.from_numpy(3 * train.unigram_log_probabilities))
    return made


@pytest.fixture(scope="module")
def model(splits) -> PretrainingModel:
    return small(splits[0])


@pytest.fixture(scope="module")
def figures(model, splits) -> Intrinsic:
    train, heldout, tokenizer = splits
    return evaluate_intrinsic(model, train, heldout, tokenizer, CPU)


def one_by_one(split: Split) -> list[Block]:
    blocks = [split.block(number, 0) for number in range(len(split.block_samples))]
    return [block.take(np.array([row])) for block in blocks for row in range(len(block.samples))]


def asked(model: PretrainingModel, ids: list[int], first: int, places: list[int]) -> tuple[torch.Tensor, int]:
    """Log-probabilities at places, and whether a pair is called swapped."""
    types = (torch.arange(len(ids)) >= first + 2).long()
    output = model(torch.tensor(ids), types, Packing.of([len(ids)]), torch.tensor(places, dtype=torch.int64))
    return output.mlm_logits_MV.double().log_softmax(-1), int(output.pair_logits_B2.argmax())


def shown(one: Block) -> list[int]:
    """A sample's ids as the model sees them."""
    ids = one.samples.ids.tolist()
    for place, stand_in in zip(one.masks.positions.tolist(), one.masks.inputs.tolist(), strict=True):
        ids[place] = stand_in
    return ids


def words_of(one: Block) -> list[list[int]]:
    """The places of each word, special tokens being words as well."""
    words: list[list[int]] = []
    for place, begins in enumerate(one.samples.words.tolist()):
        if begins:
            words.append([])
        words[-1].append(place)
    return words


def characters(tokenizer: TextTokenizer, number: int) -> int:
    piece = tokenizer.pieces[number]
    if piece == "[UNK]":
        return 1
    return len(piece[2:] if tokenizer.KIND == "wordpiece" and piece.startswith("##") else piece.replace("▁", ""))


def length_name(length: int) -> str:
    return str(max(length, 1)) if length < 4 else "4 or more"


def walked(model, train: Split, heldout: Split, tokenizer: TextTokenizer) -> dict[str, dict[str, list[float]]]:
    """By grouping and group: tokens, loss, hits, unigram loss, words, words that are right."""
    counts = train.unigram.tolist()
    guess = -np.log((np.array(counts) + 1) / (sum(counts) + len(counts)))
    sums: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(lambda: [0.0] * 6))
    for one in one_by_one(heldout):
        places, ids = one.masks.positions.tolist(), one.samples.ids.tolist()
        logs, _ = asked(model, shown(one), int(one.samples.first[0]), places)
        right = {place: int(log.argmax()) == ids[place] for place, log in zip(places, logs, strict=True)}
        loss = {place: -float(log[ids[place]]) for place, log in zip(places, logs, strict=True)}
        for word in words_of(one):
            masked = [place for place in word if place in right]
            whole = len(masked) == len(word)
            long = sum(characters(tokenizer, ids[place]) for place in word)
            for place in masked:
                count = counts[ids[place]]
                low = 10 ** (len(str(count)) - 1)
                names = {
                    "source": heldout.sources[int(one.samples.sources[0])],
                    "frequency": f"{low:,} to {10 * low - 1:,}" if count else "0",
                    "characters": length_name(long) if whole else "masked in part",
                    "pieces": length_name(len(word)) if whole else "masked in part",
                }
                begins = place == masked[0]
                all_right = begins and all(right[other] for other in masked)
                for grouping, name in names.items():
                    added = (1, loss[place], right[place], guess[ids[place]], begins, all_right)
                    sums[grouping][name] = [old + new for old, new in zip(sums[grouping][name], added, strict=True)]
    return sums


def test_figures_by_group_equal_a_walk_through_the_samples(model, splits, figures) -> None:
    with torch.inference_mode():
        expected = walked(model, *splits)
    assert figures.mlm_by.keys() == expected.keys()
    for grouping, groups in figures.mlm_by.items():
        assert groups.keys() == expected[grouping].keys()
        for name, its in groups.items():
            tokens, loss, right, unigram, words, words_right = expected[grouping][name]
            assert its["masked_tokens"] == tokens
            assert its["mlm_loss"] == pytest.approx(loss / tokens, rel=1e-5)
            assert its["mlm_accuracy"] == pytest.approx(right / tokens, abs=1e-9)
            assert its["unigram_loss"] == pytest.approx(unigram / tokens, rel=1e-9)
            assert ("words" in its) == (grouping in ("characters", "pieces"))
            if "words" in its:
                assert (its["words"], its["word_accuracy"]) == (words, pytest.approx(words_right / words, abs=1e-9))
    assert len(figures.mlm_by["source"]) == 3 and len(figures.mlm_by["frequency"]) >= 3
    assert len(figures.mlm_by["characters"]) >= 3
    assert 0 < figures.mlm_by["pieces"]["1"]["word_accuracy"] < 1


def test_groups_add_up_to_the_figures_of_the_whole(model, splits, figures) -> None:
    train, heldout, _ = splits
    whole = evaluate_heldout(model, train, heldout, CPU)
    for groups in figures.mlm_by.values():
        tokens = [its["masked_tokens"] for its in groups.values()]
        assert sum(tokens) == whole.masked_tokens
        for name in ("mlm_loss", "mlm_accuracy"):
            mean = np.average([its[name] for its in groups.values()], weights=tokens)
            assert mean == pytest.approx(getattr(whole, name), rel=1e-5)
        unigram = np.average([its["unigram_loss"] for its in groups.values()], weights=tokens)
        assert unigram == pytest.approx(whole.unigram_loss_masked, rel=1e-9)


def test_words_are_masked_in_part_where_tokens_are_masked(folder, splits, figures) -> None:
    tokenizer = splits[2]
    assert ("masked in part" in figures.mlm_by["pieces"]) == (tokenizer.KIND == "wordpiece")


def met(block: Block) -> list[tuple[int, int]]:
    """Samples whose first and second segments meet: each takes the next that fits, from all that come after it."""
    samples, found = block.samples, []
    second = (samples.lengths - samples.first).tolist()
    for order in (0, 1):
        rows = [row for row in range(len(samples)) if samples.order[row] == order]
        rows.sort(key=lambda row: -second[row])
        for place, row in enumerate(rows):
            others = [other for other in rows[place + 1 :] if samples.documents[other] != samples.documents[row]]
            found += [(row, other) for other in others[:1]]
    return found


def test_strangers_are_as_long_as_may_be_and_of_another_document(splits) -> None:
    (block,) = parts(splits[1])
    columns, expected = strangers(block), met(block)
    ids = np.split(columns.ids, np.cumsum(columns.lengths)[:-1])
    assert len(columns) == len(expected) > 0.9 * np.count_nonzero(block.samples.order >= 0)
    ones = {row: block.take(np.array([row])) for row in range(len(block.samples))}
    for number, (row, other) in enumerate(expected):
        first = int(block.samples.first[row])
        begun, ended = shown(ones[row])[: first + 2], shown(ones[other])[int(block.samples.first[other]) + 2 :]
        assert ids[number].tolist() == begun + ended
        assert columns.first[number] == first and columns.order[number] == block.samples.order[other]
        assert columns.lengths[number] <= block.samples.lengths[row]
    shortened = [block.samples.lengths[row] - columns.lengths[n] for n, (row, _) in enumerate(expected)]
    assert np.mean(shortened) < 1


def test_what_is_said_of_strangers_equals_a_walk(model, splits, figures) -> None:
    heldout = splits[1]
    ones = one_by_one(heldout)
    pairs = met(join(ones))
    right = swapped = 0
    with torch.inference_mode():
        for row, other in pairs:
            first = int(ones[row].samples.first[0])
            ids = shown(ones[row])[: first + 2] + shown(ones[other])[int(ones[other].samples.first[0]) + 2 :]
            told = asked(model, ids, first, [])[1]
            right += told == int(ones[row].samples.order[0])
            swapped += told
        own = [one for one in ones if one.samples.order[0] >= 0]
        own_swapped = sum(asked(model, shown(one), int(one.samples.first[0]), [])[1] for one in own)
    check = figures.sop_strangers
    assert check is not None and check.pairs == len(pairs)
    assert check.accuracy == right / len(pairs) and check.interval == wilson_interval(right, len(pairs))
    assert check.swapped == swapped / len(pairs) and 0 < swapped < len(pairs)
    assert check.own_swapped == own_swapped / len(own)


def test_a_head_that_takes_a_new_topic_for_a_swap_is_found_out(splits, monkeypatch) -> None:
    """One that knows all documents, and calls what is of two of them swapped: it looks at the ends of pairs."""
    train, heldout, tokenizer = splits
    (block,) = parts(heldout)
    known = {tuple(shown(one)) for one in one_by_one(heldout)}

    class Topical(torch.nn.Module):
        def forward(self, first_BH: torch.Tensor) -> torch.Tensor:
            pairs = [tuple(each.tolist()) for each in seen.pop().split(lengths.pop())]
            swapped_B = torch.tensor([pair not in known for pair in pairs])
            return torch.stack([~swapped_B, swapped_B], 1).float()

    seen: list[torch.Tensor] = []
    lengths: list[list[int]] = []
    topical = small(train)
    topical.pair = Topical()  # type: ignore[assignment]

    def noted(module: object, inputs: tuple) -> None:
        seen.append(inputs[0])
        lengths.append(inputs[2].lengths.tolist())

    topical.encoder.register_forward_pre_hook(noted)
    check = evaluate_intrinsic(topical, train, heldout, tokenizer, CPU).sop_strangers
    assert check is not None and check.own_swapped == 0
    assert check.swapped == 1 and check.swapped_interval[0] > 0.98
    orders = strangers(block).order
    assert check.accuracy == np.mean(orders == 1)


def test_micro_batches_change_nothing_but_rounding(model, splits, figures) -> None:
    train, heldout, tokenizer = splits
    other = evaluate_intrinsic(model, train, heldout, tokenizer, CPU, micro_tokens=200)
    assert other.sop_strangers == figures.sop_strangers
    for grouping, groups in figures.mlm_by.items():
        for name, its in groups.items():
            assert other.mlm_by[grouping][name] == pytest.approx(its, rel=1e-5)


def test_blocks_read_a_few_at_a_time_are_all_counted(model, splits, figures, monkeypatch) -> None:
    monkeypatch.setattr("litebert.evaluate.parts._BLOCKS", 2)
    train, heldout, tokenizer = splits
    other = evaluate_intrinsic(model, train, heldout, tokenizer, CPU)
    for grouping, groups in figures.mlm_by.items():
        for name, its in groups.items():
            assert other.mlm_by[grouping][name] == pytest.approx(its, rel=1e-5)
    assert other.sop_strangers is not None and figures.sop_strangers is not None
    assert other.sop_strangers.own_swapped == figures.sop_strangers.own_swapped


def test_a_model_without_a_pair_head_is_asked_for_words_alone(splits) -> None:
    train, heldout, tokenizer = splits
    found = evaluate_intrinsic(small(train, pooler=False), train, heldout, tokenizer, CPU)
    assert found.sop_strangers is None and "SOP" not in groups_table(found, None)


def test_bands_are_powers_of_ten(tokenizer) -> None:
    unigram = np.zeros(tokenizer.vocab_size, np.int64)
    unigram[5:13] = [0, 1, 9, 10, 99, 100, 999, 1000]
    groups = Groups(["a"], unigram, tokenizer)
    names = [groups.names["frequency"][band] for band in groups._bands[5:13]]
    assert names == ["0", *["1 to 9"] * 2, *["10 to 99"] * 2, *["100 to 999"] * 2, "1,000 to 9,999"]


def test_the_table_has_every_group(figures, model, splits) -> None:
    text = groups_table(figures, 0.75)
    rows = [row.split(" | ") for row in text.splitlines() if row.startswith("| ")]
    assert len(rows) == 2 + sum(map(len, figures.mlm_by.values()))
    assert {len(row) for row in rows} == {7}
    assert "pairs as they are: 75.0%" in text
