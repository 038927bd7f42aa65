"""The WordPiece look-up, beside transformers' BertTokenizer: ids, places, folders and shards."""

import dataclasses
import json
import lzma
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, BertTokenizer

from data_tools import __main__ as command
from data_tools.build import build
from data_tools.documents.filters import FilterConfig
from data_tools.shards.manifest import Manifest
from data_tools.shards.reader import ShardReader
from data_tools.text import wordpiece as room
from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import Encoded
from data_tools.text.wordpiece import WordPiece
from data_tools.verification import verify

SHARED = next((up / "shared" for up in Path(__file__).parents if (up / "shared" / "models").is_dir()), Path("shared"))
GOOGLES = SHARED / "models" / "vocab-zh-21128.txt"
SAMPLE = SHARED / "corpus" / "sample.jsonl.xz"
REAL = pytest.mark.skipif(not GOOGLES.exists(), reason=f"no {GOOGLES}")
# Beside each code point: nothing, Chinese, Latin, punctuation, and marks that compose, reorder or vanish.
CONTEXTS = (
    "{}",
    "中{}国",
    "ab{}cd",
    "A {} b",
    "{}\u0301",
    "e\u0301{}x",
    "。{}.",
    "\u302e{}\U0001d165",
    "か{}\u3099",
    "{0}{0}",
)
ALPHABET = st.one_of(
    st.characters(exclude_categories=["Cs"]),
    st.sampled_from(
        "中国人龘。，！[]#abzAZÉß09 \t\n\r\u3000\u00a0\u200b\ufeff\u00ad\x00\ufffd\u0301\u0323\u302e\U0001d165한カ゛İŉ"
    ),
    st.sampled_from(["[MASK]", "[SEP]", "[UNK]", "##", "hello", "2012", "\U0001d16e\U0001d165", "क्षि", "ᄒ", "ᅡ", "ᆫ"]),
)
TEXT = st.lists(ALPHABET, max_size=40).map("".join)


def reference(path: Path) -> BertTokenizer:
    """Text is text: a special token's name in it is not the token."""
    return BertTokenizer(str(path), split_special_tokens=True)


def assert_equal(tokenizer: WordPiece, theirs: BertTokenizer, texts: list[str]) -> None:
    """Ids and places of every text, encoded together."""
    encoded = tokenizer.encode(texts)
    answers = theirs._tokenizer.encode_batch(texts, add_special_tokens=False)
    piece = character = 0
    for text, answer, length in zip(texts, answers, encoded.lengths, strict=True):
        ours = slice(piece, piece + int(length))
        assert encoded.ids[ours].tolist() == answer.ids, repr(text)
        places = zip(encoded.starts[ours] - character, encoded.ends[ours] - character, strict=True)
        assert [*places] == answer.offsets, repr(text)
        piece, character = ours.stop, character + len(text)
    assert piece == len(encoded.ids)


@pytest.fixture(scope="module", params=["made-up", pytest.param("googles", marks=REAL)])
def file(request, wordpiece_file) -> Path:
    return wordpiece_file if request.param == "made-up" else GOOGLES


@pytest.fixture(scope="module")
def ours(file) -> WordPiece:
    return WordPiece(file.read_bytes(), str(file))


@pytest.fixture(scope="module")
def theirs(file) -> BertTokenizer:
    tokenizer = reference(file)
    tokenizer._tokenizer.encode_special_tokens = True
    return tokenizer


def code_points_in_contexts(codes) -> list[str]:
    """Texts of 256 code points in every context, a line each."""
    characters = [chr(code) for code in codes if not 0xD800 <= code < 0xE000]
    blocks = [characters[begin : begin + 256] for begin in range(0, len(characters), 256)]
    return ["\n".join(context.format(character) for character in block) for block in blocks for context in CONTEXTS]


def test_every_basic_code_point_has_berts_ids(ours, theirs):
    assert_equal(ours, theirs, code_points_in_contexts(range(0x10000)))


@pytest.mark.slow
def test_certify_every_code_point_alone_and_in_context(ours, theirs):
    for begin in range(0, sys.maxunicode + 1, 0x8000):
        assert_equal(ours, theirs, [chr(code) for code in range(begin, begin + 0x8000) if not 0xD800 <= code < 0xE000])
        assert_equal(ours, theirs, code_points_in_contexts(range(begin, begin + 0x8000)))


@settings(max_examples=1000, deadline=None)
@given(texts=st.lists(TEXT, max_size=4))
def test_any_text_has_berts_ids(ours, theirs, texts):
    assert_equal(ours, theirs, texts)


@settings(max_examples=500, deadline=None)
@given(text=TEXT)
def test_the_canonical_form_has_the_ids_of_the_text(ours, theirs, text):
    canonical = ours.canonical(text)
    assert theirs(text, add_special_tokens=False)["input_ids"] == ours.encode([canonical]).ids.tolist()
    assert ours.canonical(canonical) == canonical
    paragraphs = ours.canonical_paragraphs(text)
    assert paragraphs.replace("\n", " ") == ours.canonical(paragraphs) == canonical.strip(" ")
    assert "\n\n" not in paragraphs and ours.canonical_paragraphs(paragraphs) == paragraphs


@REAL
@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no real text at {SAMPLE}")
def test_real_text_has_berts_ids():
    with lzma.open(SAMPLE, "rt", encoding="utf-8") as stream:
        texts = [json.loads(line)["text"] for line in stream][::8]
    theirs = reference(GOOGLES)
    theirs._tokenizer.encode_special_tokens = True
    tokenizer = WordPiece(GOOGLES.read_bytes(), "test")
    assert_equal(tokenizer, theirs, texts)
    together = tokenizer.encode(texts).ids.tolist()
    assert tokenizer.encode([tokenizer.canonical_paragraphs(text) for text in texts]).ids.tolist() == together


def test_a_special_tokens_name_in_a_text_is_text(ours, file):
    text = "他说[MASK]了[SEP]。"
    ids = ours.encode([text]).ids
    assert not np.isin(ids, [ours.vocabulary.mask, ours.vocabulary.sep]).any()
    assert reference(file)(text, add_special_tokens=False)["input_ids"] == ids.tolist()
    forged = BertTokenizer(str(file))(text, add_special_tokens=False)["input_ids"]
    assert ours.vocabulary.mask in forged and forged != ids.tolist()


def test_surrogates_vanish(ours):
    assert ours.encode(["a\ud800b中\udfff"]).ids.tolist() == ours.encode(["ab中"]).ids.tolist()
    assert ours.canonical("a\ud800b") == "ab"


def test_neither_the_cache_nor_the_chunks_show(ours, texts, monkeypatch):
    texts = [f"{text} Hello{number % 7} 2012年 한국 {number}" for number, text in enumerate(texts[:80])]
    whole = ours.encode(texts)
    monkeypatch.setattr(room, "CACHE_CHARACTERS", 10)
    monkeypatch.setattr(room, "CHUNK_CHARACTERS", 100)
    for again in (ours.encode(texts), ours.encode(texts)):
        assert all(np.array_equal(getattr(again, name), getattr(whole, name)) for name in vars(whole))
    assert len(ours._runs) < 20


def test_empty_texts_have_no_pieces(ours):
    encoded = ours.encode(["", "中", " \n", "\u0301", "", "人a"])
    assert encoded.lengths.tolist() == [0, 1, 0, 0, 0, 2] and encoded.starts.tolist() == [0, 4, 5]
    assert not len(ours.encode([]).ids) and not len(ours.encode([""]).begins(np.zeros(0, bool)))


@given(st.data())
def test_what_begins_at_a_piece_or_just_before_it(data):
    widths = data.draw(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 3)), max_size=8))  # gap, width
    starts: list[int] = []
    ends: list[int] = []
    end = 0
    for gap, width in widths:
        same = width == 0 and bool(starts)  # another piece of the same character
        starts.append(starts[-1] if same else end + gap)
        ends.append(ends[-1] if same else end + gap + max(1, width))
        end = ends[-1]
    flags = np.array(data.draw(st.lists(st.booleans(), min_size=end, max_size=end)), bool)
    encoded = Encoded(
        np.zeros(len(starts), np.int32), np.array(starts, int), np.array(ends, int), np.array([len(starts)])
    )
    expected = [any(flags[before : start + 1]) for before, start in zip([0, *ends], starts)]  # noqa: B905
    assert encoded.begins(flags).tolist() == expected


def test_the_folder_is_berts_own(ours, file, tmp_path, monkeypatch):
    arguments = ["data_tools", "tokenizer", "--wordpiece", str(file), "--output", str(tmp_path / "tok")]
    monkeypatch.setattr(sys, "argv", arguments)
    assert command.main() == 0
    assert (tmp_path / "tok" / "vocab.txt").read_bytes() == file.read_bytes()
    loaded = load_tokenizer(tmp_path / "tok")
    assert isinstance(loaded, WordPiece) and loaded.fingerprint == ours.fingerprint
    fast = AutoTokenizer.from_pretrained(tmp_path / "tok", local_files_only=True)
    assert isinstance(fast, BertTokenizer)
    plain = BertTokenizer(str(file))
    text = "他说：“Hello wörld，2012年！”[MASK] 한국\u200b"
    assert fast(text, "中国")["input_ids"] == plain(text, "中国")["input_ids"]
    assert fast(text, "中国")["token_type_ids"] == plain(text, "中国")["token_type_ids"]
    assert fast.decode(fast("hello 2012")["input_ids"]) == plain.decode(plain("hello 2012")["input_ids"])
    assert command.main() == 2  # it does not overwrite


def test_what_is_no_vocabulary_is_refused(tmp_path, wordpiece_file, tokenizer_folder, monkeypatch, capsys):
    with pytest.raises(
        ValueError, match=r"v\.txt is not a vocabulary of BERT's kind: it has no line \[UNK\] or \[CLS\]"
    ):
        WordPiece(b"[PAD]\na\n", "v.txt")
    with pytest.raises(ValueError, match="it has the piece '人' twice"):
        WordPiece("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n人\n人\n".encode(), "v.txt")
    with pytest.raises(ValueError, match="not UTF-8"):
        WordPiece(b"\xff\xfe", "v.txt")
    for file in (tokenizer_folder / "tokenizer.model", wordpiece_file):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=r"holds tokenizer\.model and vocab\.txt"):
        load_tokenizer(tmp_path)
    for arguments, said in (
        (["--wordpiece", str(wordpiece_file), "--vocab-size", "50"], "--vocab-size would have no effect"),
        ([], "give text to train on"),
    ):
        monkeypatch.setattr(sys, "argv", ["data_tools", "tokenizer", *arguments, "--output", str(tmp_path / "new")])
        assert command.main() == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_windows_line_ends_are_no_part_of_a_piece(wordpiece_file):
    model = wordpiece_file.read_bytes()
    windows = WordPiece(model.replace(b"\n", b"\r\n"), "test")
    assert windows.pieces == WordPiece(model, "test").pieces


@pytest.fixture(scope="module")
def wordpiece_shards(corpus, wordpiece_folder, build_config, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wordpiece-shards") / "shards"
    build([corpus], wordpiece_folder, folder, build_config)
    return folder


def test_one_and_two_workers_give_the_same_bytes(
    wordpiece_shards, corpus, wordpiece_folder, build_config, tmp_path, monkeypatch
):
    monkeypatch.setattr("data_tools.build.PART_CHARACTERS", 20_000)
    build([corpus], wordpiece_folder, tmp_path / "two", build_config, workers=2)
    for path in wordpiece_shards.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (tmp_path / "two" / path.relative_to(wordpiece_shards)).read_bytes(), path


def test_shards_hold_the_vocabularys_own_special_ids(wordpiece_shards, texts):
    manifest = Manifest.load(wordpiece_shards)
    assert manifest.tokenizer_kind == "wordpiece" and "whole" in verify(wordpiece_shards)
    tokenizer = load_tokenizer(wordpiece_shards / "tokenizer")
    ids = tokenizer.vocabulary
    fast = AutoTokenizer.from_pretrained(wordpiece_shards / "tokenizer", local_files_only=True)
    documents = {tuple(fast(text, add_special_tokens=False)["input_ids"]) for text in texts}
    found: dict[int, dict[int, list[int]]] = {}
    random: set[int] = set()
    for split in manifest.splits.values():
        for shard in split.shards:
            for number in range(len(shard.samples)):
                block = ShardReader(wordpiece_shards, shard).read(number, 0)
                samples, masks = block.samples, block.masks
                begins = np.cumsum(samples.lengths) - samples.lengths
                labels = samples.ids[np.repeat(begins, masks.counts) + masks.positions]
                assert not np.isin(labels, [ids.cls, ids.sep]).any()
                random |= {*masks.inputs[(masks.inputs != labels) & (masks.inputs != ids.mask)].tolist()}
                for n, (begin, length, first) in enumerate(zip(begins, samples.lengths, samples.first, strict=True)):
                    sample = samples.ids[begin : begin + length].tolist()
                    assert (sample[0], sample[1 + first], sample[-1]) == (ids.cls, ids.sep, ids.sep)
                    a, b = sample[1 : 1 + first], sample[2 + first : -1]
                    stretches = found.setdefault(int(samples.documents[n]), {})
                    stretches[int(samples.numbers[n])] = b + a if samples.order[n] == 1 else a + b
    whole = [tuple(token for _, part in sorted(parts.items()) for token in part) for parts in found.values()]
    assert len(whole) > 300 and documents.issuperset(whole)
    assert len(random) > 50 and not any(tokenizer.pieces[i].startswith(("[unused", "<S", "<T")) for i in random)
    assert not random & {ids.pad, ids.unk, ids.cls, ids.sep, ids.mask}


def test_a_line_feed_begins_a_sentence_and_a_document_may_have_no_ids(wordpiece_folder, tmp_path, build_config):
    """What begins at white space begins at the piece that follows it; marks alone are a document without pieces."""
    lines = [
        "学生喜欢历史\n老师报道历史\n学生研究历史" * 3,
        "\u0301" * 20,
        *[f"中国人{n}，历史。" * 30 for n in range(40)],
    ]
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": line}) + "\n" for line in lines), encoding="utf-8")
    tokenizer = load_tokenizer(wordpiece_folder)
    text = tokenizer.canonical_paragraphs(lines[0])
    encoded = tokenizer.encode([text])
    flags = np.array([character == "\n" for character in text])
    assert encoded.begins(flags).sum() == flags.sum() == 6
    assert unicodedata.category("\u0301") == "Mn" and not len(tokenizer.encode([lines[1]]).ids)

    build(
        [path],
        wordpiece_folder,
        tmp_path / "shards",
        dataclasses.replace(
            build_config, filter=FilterConfig(min_chinese=0, max_repeated_lines=1, max_repeated_grams=1)
        ),
    )
    assert "whole" in verify(tmp_path / "shards")
