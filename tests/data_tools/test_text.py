"""Canonical text, sentences, words; and the tokenizer, beside SentencePiece itself and Hugging Face."""

import itertools
import re
import sys
import unicodedata

import numpy as np
import pytest
import sentencepiece
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from data_tools.text import tokenizer as tokenizer_room
from data_tools.text.interface import SPECIAL_TOKENS, Encoded
from data_tools.text.normalization import canonical, canonical_documents, canonical_paragraphs, rules
from data_tools.text.sentences import CLOSERS, TERMINATORS, code_points, sentence_starts
from data_tools.text.tokenizer import UNK, Tokenizer

TEXT = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]), st.sampled_from("中国人。！？”」…，.Ａ1 \n\u3000\u200b\u0301é")
    ),
    max_size=60,
)


def test_canonical_keeps_chinese_punctuation_and_folds_the_rest():
    assert canonical("Ｗｏｒｄ　１２％，（中国）！\u200b\ufeff“ＯＫ”") == "word 12%，（中国）！“ok”"
    assert canonical("cafe\u0301\r\n\t ½") == "café 1⁄2"


def test_canonical_is_idempotent_on_every_code_point():
    for code in range(sys.maxunicode + 1):
        once = canonical(chr(code))
        assert canonical(once) == once, hex(code)


@given(TEXT)
def test_canonical_is_idempotent_in_context(text):
    assert canonical(canonical(text)) == canonical(text)
    assert canonical(canonical_paragraphs(text).replace("\n", " ")) == canonical_paragraphs(text).replace("\n", " ")


def paragraphs_read_aloud(text: str, fold: dict[int, str]) -> str:
    """The canonical form of a document, a paragraph at a time."""
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).translate(fold))
    paragraphs = (re.sub(" +", " ", line).strip(" ") for line in folded.split("\n"))
    return "\n".join(filter(None, paragraphs))


@given(st.lists(TEXT, max_size=8))
def test_documents_are_folded_together_as_one_by_one(texts):
    fold = {ord(character): folded for character, folded in rules().items() if character != "\n"}
    assert canonical_documents(texts) == [paragraphs_read_aloud(text, fold) for text in texts]


def test_every_code_point_of_a_document_is_folded_by_the_table():
    fold = {ord(character): folded for character, folded in rules().items() if character != "\n"}
    texts = [f"中{chr(code)}国 \n{chr(code)}" for code in range(sys.maxunicode + 1)]
    assert canonical_documents(texts) == [paragraphs_read_aloud(text, fold) for text in texts]


def naive_starts(text: str) -> list[bool]:
    """The sentence rule read aloud, a character at a time."""
    starts, ended = [], False
    for place, character in enumerate(text):
        closes = character in CLOSERS and place > 0
        stop = character == "." and text[place + 1 : place + 2] in (" ", "\n")
        terminates = character in TERMINATORS or stop
        starts.append(place == 0 or character == "\n" or (ended and not terminates and not closes))
        if character not in CLOSERS:
            ended = terminates
    return starts


@given(TEXT)
def test_sentence_starts_follow_the_rule_read_aloud(text):
    assert sentence_starts(code_points(text)).tolist() == naive_starts(text)


def test_sentences_of_a_text():
    text = "他说：“你好！”我说：好……真的吗？！圆周率是3.14。"
    begins = [*np.flatnonzero(sentence_starts(code_points(text))), len(text)]
    sentences = [text[begin:end] for begin, end in itertools.pairwise(begins)]
    assert sentences == ["他说：“你好！”", "我说：好……", "真的吗？！", "圆周率是3.14。"]


@given(flags=st.lists(st.booleans(), min_size=9, max_size=9))
def test_what_begins_between_two_pieces_begins_at_the_second(flags):
    starts, ends = np.array([0, 3, 3, 5]), np.array([2, 4, 4, 8])  # two pieces share the character at 3
    encoded = Encoded(np.arange(4, dtype=np.int32), starts, ends, np.array([4]))
    expected = [any(flags[0:1]), any(flags[2:4]), False, any(flags[4:6])]
    assert encoded.begins(np.array(flags)).tolist() == expected


def test_pieces_are_where_they_say(tokenizer, texts):
    canonical_texts = [canonical(text) + " 龘龘𠮷x龘" for text in texts]  # with characters it does not know
    encoded = tokenizer.encode(canonical_texts)
    everything = "".join(canonical_texts)
    ends = [*encoded.starts[1:], len(everything)]
    for piece, begin, end in zip(encoded.ids, encoded.starts, ends, strict=True):
        surface = everything[begin:end]
        if piece == UNK:
            assert tokenizer._unknown[code_points(surface)].all()
        else:
            assert surface.replace(" ", "▁") == tokenizer.pieces[piece]


def test_ids_equal_plain_sentencepiece_and_hugging_face(tokenizer, tokenizer_folder, texts):
    plain = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
    fast = AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)
    for raw in texts:
        ids = tokenizer.encode([canonical(raw).strip()]).ids.tolist()
        assert plain.encode(canonical(raw).strip()) == ids
        assert fast(raw, add_special_tokens=False)["input_ids"] == ids


@settings(max_examples=1000, deadline=None)
@given(text=TEXT)
@example(text="Q\u0301①\u0301B\u20ddＡ\u0301\u0302")  # marks on what is folded
@example(text="\u0301\u0600a\0b\u200dc\u3000")  # a mark first; characters that vanish; white space last
def test_ids_equal_hugging_face_on_any_raw_text(tokenizer, fast, text):
    assume(not any(token in text for token in SPECIAL_TOKENS))  # spelt out, Hugging Face takes them for themselves
    document = canonical(text).strip()
    expected = tokenizer.encode([document]).ids.tolist() if document else []
    assert fast(text, add_special_tokens=False)["input_ids"] == expected


def test_ids_equal_hugging_face_on_every_code_point(tokenizer, fast):
    """Alone, and between Chinese characters; all but the surrogates, which no UTF-8 text holds."""
    characters = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
    for texts in (characters, [f"中{character}国" for character in characters]):
        documents = [canonical(text).strip() for text in texts]
        encoded = tokenizer.encode(documents)
        ends = np.cumsum(encoded.lengths)
        theirs = fast(texts, add_special_tokens=False)["input_ids"]
        for text, ids, end, length in zip(texts, theirs, ends, encoded.lengths, strict=True):
            assert ids == encoded.ids[end - length : end].tolist(), ascii(text)


@pytest.fixture(scope="module")
def fast(tokenizer_folder):
    return AutoTokenizer.from_pretrained(tokenizer_folder, local_files_only=True)


def test_any_stretch_between_pieces_is_tokenized_as_it_was_in_its_document(tokenizer, texts):
    rng = np.random.default_rng(1)
    for text in map(canonical, texts[:60]):
        encoded = tokenizer.encode([text])
        begin, end = sorted(rng.integers(0, len(encoded.ids), 2))
        stretch = text[encoded.starts[begin] : encoded.starts[end]]
        assert tokenizer.encode([stretch]).ids.tolist() == encoded.ids[begin:end].tolist()


def test_long_texts_are_cut_without_a_trace(tokenizer, texts, monkeypatch):
    text = canonical("".join(texts[:100]).replace("\n", ""))
    whole = tokenizer.encode([text]).ids.tolist()
    monkeypatch.setattr(tokenizer_room, "CHUNK_CHARACTERS", 1200)
    chunks = tokenizer._chunks(text)
    assert len(chunks) > 10 and max(map(len, chunks)) <= 1200 and "".join(chunks) == text
    assert tokenizer.encode([text]).ids.tolist() == whole
    assert "".join(tokenizer.parts(text)) == text


def test_a_text_without_a_safe_cut_becomes_parts_of_bounded_length(tokenizer):
    text = "中" * 30_000 + "国。人"
    parts = tokenizer.parts(text)
    assert "".join(parts) == text
    assert max(map(len, parts)) <= tokenizer_room.CHUNK_CHARACTERS


def test_a_model_that_is_not_ours_is_refused():
    with pytest.raises(ValueError, match=r"x\.model is not a SentencePiece model"):
        Tokenizer(b"nothing of the kind", "x.model")
