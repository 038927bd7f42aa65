"""Real messy files are read as what they are. They are no part of the project; without them this is skipped."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from data_tools.documents.document import Document, Rejected
from tests.data_tools.documents.forms import read

FOLDERS = [up / "shared" / "messy" for up in Path(__file__).parents]
MESSY = next(filter(Path.is_dir, FOLDERS), FOLDERS[0])
pytestmark = pytest.mark.skipif(not MESSY.is_dir(), reason="no messy files in shared/ above the repository")


def documents(part: str, **options) -> dict[str, Document]:
    """The documents of a part by file name or id; nothing in it is rejected."""
    items = read(MESSY / part, unreadable="stop", **options)
    assert all(isinstance(item, Document) for item in items)
    return {item.id: item for item in items}


def test_gb18030_text():
    found = documents("gb18030_txt")
    assert len(found) == 59 and not any(item.broken_bytes for item in found.values())
    assert found["009.txt:1"].text.startswith("七城会女足甲组最后一轮四场比赛今天分别在江西上饶市")
    assert found["018.txt:1"].text == "2011年中超最佳教练：辽宁宏运马林"
    for item in found.values():
        assert (MESSY / "gb18030_txt" / item.id[:7]).read_bytes().decode("gb18030").split() == item.text.split()


def test_csv_with_a_byte_order_mark():
    found = documents("bom_csv", text_field="sentence1,sentence2")
    assert len(found) == 199
    first = "不要借了我是试试看能否操作的\n借款审核期间能否取消借款"
    assert found["bq_dev_bom.csv:2"].text == first


def test_junk_is_skipped_with_a_count():
    items = read(MESSY / "ds_store_junk", unreadable="stop")
    assert Counter(item.detail for item in items) == {".DS_Store": 3, "AppleDouble file": 3}


def test_web_pages_give_their_articles():
    found = documents("html_zhihu")
    assert len(found) == 18
    text = found["0001.html"].text
    assert "联赛的赛制其实就是循环制，杯赛的赛制基础是淘汰制" in text and text.splitlines()[-1] != ""
    for item in found.values():
        assert len(item.text) > 200 and not re.search(r"</|document\.|function\s*\(|\{\s*$|stylesheet", item.text)


def test_xhtml_gives_its_abstracts():
    items = read(MESSY / "xml_wanfang", unreadable="stop")
    found = {item.id: item for item in items if isinstance(item, Document)}
    (empty,) = (item for item in items if isinstance(item, Rejected))
    assert len(found) == 15 and (Path(empty.file).name, empty.reason) == ("153.xml", "no text")
    assert "针对反事故演习对保证电网安全稳定运行的重要性,介绍了视频联合反事故演习系统" in found["207.xml"].text
    assert not any("__doPostBack" in item.text or "CDATA" in item.text for item in found.values())


def test_manual_pages_lose_their_roff():
    found = documents("roff_man")
    assert len(found) == 12
    assert found["drop_cast.7.gz"].text.startswith("NAME\nDROP CAST - 删除一个用户定义的类型转换\nSYNOPSIS\n")
    assert "\n-l标志定义口令长度。缺省值为9。" in found["mkpasswd.1.gz"].text
    for item in found.values():
        assert not re.search(r"\\f[BIRP(\[]|\\-|^\.[A-Za-z]{2}\b", item.text, re.MULTILINE), item.id
        assert len(re.findall("[\u4e00-\u9fff]", item.text)) > 100


def test_the_rest_and_the_whole():
    assert len(documents("trad_wiki")) == 20
    assert len(documents("noisy_short")) == 201
    assert len(documents("exact_dup_pairs")) == 12
    (empty,) = read(MESSY / "long_docs")
    assert (empty.reason, empty.detail) == ("no text", "an empty file")
    items = read(MESSY, unreadable="stop", text_field="text,sentence1,sentence2")
    assert Counter(type(item).__name__ for item in items) == {"Document": 536, "Rejected": 8}
