"""Words of pieces beside a naive join of pieces, and users' dictionaries."""

import hashlib
import json
import lzma
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import rjieba

from data_tools.text.huggingface import load_tokenizer
from data_tools.text.interface import Encoded
from data_tools.text.normalization import canonical
from data_tools.text.tokenizer import Tokenizer
from data_tools.text.training import TokenizerConfig, train
from data_tools.text.words import Segmenter, WordsConfig

_SAMPLE = "shared/corpus/sample.jsonl.xz"
SAMPLE = next((found for folder in Path(__file__).parents if (found := folder / _SAMPLE).exists()), Path(_SAMPLE))


def segmenter(*dictionaries: Path, kind: Literal["rjieba", "none"] = "rjieba") -> Segmenter:
    return Segmenter.load(WordsConfig(kind, [str(path) for path in dictionaries]), canonical)


def joined(words: list[str], pieces: list[tuple[int, int]]) -> list[bool]:
    """Whether each piece begins a unit, where pieces that some word has a part in are joined, a word at a time."""
    unit = list(range(len(pieces)))
    end = 0
    for word in words:
        begin, end = end, end + len(word)
        touched = [number for number, (a, b) in enumerate(pieces) if a < end and b > begin]
        for number in touched:
            unit = [unit[touched[0]] if one == unit[number] else one for one in unit]
    return [number == 0 or unit[number] != unit[number - 1] for number in range(len(pieces))]


def check(tokenizer, texts: list[str]) -> int:
    """Compares text by text; the number of pieces that straddle words."""
    straddling = 0
    for text in texts:
        encoded = tokenizer.encode([text])
        words = rjieba.cut(text)
        pieces = list(zip(encoded.starts.tolist(), encoded.ends.tolist(), strict=True))
        found = segmenter().word_starts([text], encoded).tolist()
        assert found[1:] == joined(words, pieces)[1:]
        borders = {0, *np.cumsum([len(word) for word in words]).tolist()}
        straddling += sum(any(place in borders for place in range(a + 1, b)) for a, b in pieces)
    return straddling


def test_units_are_the_smallest_runs_of_pieces_that_cover_whole_words(tokenizer, wordpiece_folder, texts):
    assert check(tokenizer, [tokenizer.canonical(text)[:200] for text in texts[:100]]) > 20
    wordpiece = load_tokenizer(wordpiece_folder)
    check(wordpiece, [wordpiece.canonical(text)[:200] for text in texts[:100]])


@pytest.mark.skipif(not SAMPLE.exists(), reason=f"no real text at {SAMPLE}")
def test_units_of_real_text_are_too():
    with lzma.open(SAMPLE) as stream:
        texts = [canonical(json.loads(line)["text"]) for line in stream.read().splitlines()[::30]]
    real = Tokenizer(train(texts, TokenizerConfig(vocab_size=6000)), "test")
    assert check(real, [text[:300] for text in texts]) > 300


def characters(*texts: str) -> Encoded:
    """Texts with a piece a character."""
    places = np.arange(sum(map(len, texts)))
    return Encoded(places.astype(np.int32), places, places + 1, np.array([len(text) for text in texts]))


def test_words_cover_the_text():
    texts = ["我来到北京清华大学", "中文分词"]
    encoded = characters(*texts)
    assert np.flatnonzero(segmenter().word_starts(texts, encoded)).tolist() == [0, 1, 3, 5, 9, 11]
    assert segmenter(kind="none").word_starts(texts, encoded).all()


def test_a_dictionary_makes_words_and_is_part_of_the_name(tmp_path):
    plain = canonical("他研究石墨烯量子点和ＡＢＣ集团")
    encoded = characters(plain)
    path = tmp_path / "mine.txt"
    path.write_text("\ufeff石墨烯量子点\n\nＡＢＣ集团 300 nt\r\n", encoding="utf-8")

    def words(of: Segmenter) -> set[str]:
        starts = encoded.starts[of.word_starts([plain], encoded)].tolist()
        return {plain[a:b] for a, b in zip(starts, [*starts[1:], len(plain)], strict=True)}

    mine = {"石墨烯量子点", "abc集团"}
    assert mine <= words(segmenter(path)) and not mine & words(segmenter())
    assert segmenter(path).name == f"{segmenter().name} + mine.txt {hashlib.sha256(path.read_bytes()).hexdigest()}"
    assert rjieba.cut(plain) == rjieba.Jieba().cut(plain)  # everyone else's words are as before


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("石墨烯\n量子点 3x\n".encode(), r"mine.txt, line 2: '量子点 3x' is not a word, or a word and how often"),
        ("量子点 0".encode(), r"line 1: '量子点 0' is not"),
        ("量子点 -5".encode(), r"line 1: '量子点 -5' is not"),
        ("量子点 5 n 好".encode(), r"line 1: '量子点 5 n 好' is not"),
        (f"量子点 {2**70}".encode(), r"line 1: '量子点 \d+' is not"),
        ("云\n\n中文".encode("gb18030"), r"line 1: not UTF-8; convert the file"),
        ("石墨烯\n\u200b 5".encode(), r"line 2: '\\u200b' is no word once the text is clean"),
    ],
)
def test_a_bad_line_is_named(tmp_path, data, message):
    path = tmp_path / "mine.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message):
        segmenter(path)


def test_a_dictionary_that_is_not_there_or_not_used_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"words.dictionaries: .*none.txt cannot be read: No such file"):
        segmenter(tmp_path / "none.txt")
    with pytest.raises(ValueError, match=r"have no effect where segmenter is none"):
        segmenter(tmp_path / "none.txt", kind="none")
    (tmp_path / "empty.txt").write_text("\n \n")
    with pytest.raises(ValueError, match=r"words.dictionaries: .*empty.txt has no words; leave it out"):
        segmenter(tmp_path / "empty.txt")
