"""What is in the files comes out: every format, every compression, every encoding, and a word for all that does not."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import subprocess
import sys
import time
import tracemalloc
import zipfile
from collections.abc import Callable

import brotli
import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from backports import zstd

from data_tools.documents.document import Document, Rejected
from data_tools.documents.files import find_files
from tests.data_tools.documents.forms import TEXTS, TRADITIONAL, forms, page, read, response, warc_record

ONE_DOCUMENT = ("x.html", "x.xhtml", "x.xml", "x.7")
COMPRESSIONS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd.compress,
}


def expected(name: str) -> list[str]:
    if name in ("x.csv", "x.tsv"):
        return [text.replace("\n", " ") for text in TEXTS]
    return TEXTS[:1] if name in ONE_DOCUMENT else TEXTS


def texts_of(path, **options):
    items = read(path, **options)
    assert all(isinstance(item, Document) for item in items), items
    return [item.text for item in items]


@pytest.mark.parametrize("name", forms())
def test_every_format_holds_the_same_texts(tmp_path, name):
    (tmp_path / name).write_bytes(forms()[name])
    assert texts_of(tmp_path / name) == expected(name)


def test_urls(tmp_path):
    """Any file system that fsspec knows: here one in memory, and a file inside an archive."""
    for name, data in forms().items():
        fsspec.filesystem("memory").pipe(f"/corpus/{name}", data)
    assert [file.name for file in find_files(["memory://corpus"])] == sorted(forms())
    for name in forms():
        assert texts_of(f"memory://corpus/{name}") == expected(name)
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("in/x.jsonl", forms()["x.jsonl"])
    assert texts_of(f"zip://in/x.jsonl::{tmp_path}/x.zip") == TEXTS
    assert [file.name for file in find_files([f"zip://in/x.jsonl::{tmp_path}/x.zip"])] == ["x.jsonl"]
    for wrong in ("s3://", "memory://none", "nonsense://x/y"):
        with pytest.raises(ValueError, match=wrong):
            find_files([wrong])


@pytest.mark.parametrize("name", [name for name in forms() if name != "x.parquet"])
@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_every_compression_of_every_format(tmp_path, name, suffix):
    """Whole, in two frames, and under a name that says nothing of it; cut anywhere, it is said where it breaks."""
    compress = COMPRESSIONS[suffix]
    data = forms()[name]
    half = len(data) // 2
    for path, content in [
        (tmp_path / (name + suffix), compress(data)),
        (tmp_path / (name + suffix), compress(data[:half]) + compress(b"") + compress(data[half:])),
        (tmp_path / name, compress(data)),
    ]:
        path.write_bytes(content)
        assert texts_of(path) == expected(name)
    path.write_bytes(compress(data)[:-4])
    assert [item.reason for item in read(path) if isinstance(item, Rejected)][-1] == "unreadable"
    with pytest.raises(ValueError, match=rf"{name}.*: cannot be read"):
        read(path, unreadable="stop")


@pytest.mark.parametrize("suffix", COMPRESSIONS)
def test_what_follows_a_damaged_frame_is_not_lost_without_a_word(tmp_path, suffix):
    compress = COMPRESSIONS[suffix]
    path = tmp_path / "x.jsonl"
    path.write_bytes(compress(forms()["x.jsonl"]) + b"damage" + compress(forms()["x.jsonl"]))
    *documents, last = read(path)
    assert [item.text for item in documents] == TEXTS[: len(documents)]
    assert (last.reason, last.place) == ("unreadable", f"after document {len(documents)}" if documents else "")


@pytest.mark.parametrize(
    "codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gbk", "gb18030"]
)
@pytest.mark.parametrize("name", [name for name in forms() if name not in ("x.parquet", "x.warc", "x.json")])
def test_every_format_in_every_encoding(tmp_path, name, codec):
    data = forms()[name].decode().encode(codec)
    (tmp_path / name).write_bytes(data)
    assert texts_of(tmp_path / name) == expected(name)


def test_an_encoding_may_show_late_and_a_character_lie_across_a_chunk(tmp_path):
    for padding in range(1 << 18, (1 << 18) + 4):
        for codec, text in (("gb18030", TEXTS[1]), ("big5", TRADITIONAL), ("utf-8", TEXTS[1])):
            (tmp_path / "x.txt").write_bytes(b"a" * (padding - 20) + b"\n" + (text * 3).encode(codec))
            assert texts_of(tmp_path / "x.txt") == ["a" * (padding - 20) + "\n" + text * 3]


@pytest.mark.parametrize("codec", ["utf-8", "gb18030"])
def test_broken_bytes_are_counted_and_replaced_or_cost_their_document(tmp_path, codec):
    good = TEXTS[1].encode(codec)
    (tmp_path / "x.txt").write_bytes(good * 20 + b"\n\n" + good + b"\xff\n\n" + good)
    first, broken, last = read(tmp_path / "x.txt")
    assert first.text == TEXTS[1] * 20 and last.text == TEXTS[1]
    assert (broken.reason, broken.place, broken.broken_bytes) == ("broken bytes", "x.txt:3", 1)
    _, replaced, _ = read(tmp_path / "x.txt", broken_bytes="replace")
    assert (replaced.text, replaced.broken_bytes) == (TEXTS[1] + "\ufffd", 1)


def test_ids_sources_and_parts_of_plain_text(tmp_path):
    lines = '{"id": "a", "source": "s", "text": "中"}\n\n{"text": "国"}\n{"text": null}\n'
    (tmp_path / "x.jsonl").write_text(lines, encoding="utf-8")
    first, second, empty = read(tmp_path / "x.jsonl")
    assert (first.id, first.source, first.text) == ("a", "s", "中")
    assert (second.id, second.source, second.text) == ("x.jsonl:3", "x", "国")
    assert (empty.place, empty.reason) == ("line 4", "no text")
    (tmp_path / "y.txt").write_bytes("\ufeff一\r\n二\n\n \n三".encode())
    texts = {kind: texts_of(tmp_path / "y.txt", plain_text=kind) for kind in ("blank_line", "file", "line")}
    assert texts == {"blank_line": ["一\n二", "三"], "file": ["一\n二\n三"], "line": ["一", "二", "三"]}


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.jsonl", b'{"text": "a"}\n{"text"\n', "x.jsonl, line 2: not JSON"),
        ("x.jsonl", b'{"body": "a"}\n', "x.jsonl, line 1: no text in field 'text'; the fields are body"),
        ("x.jsonl", b'{"text": 3}\n', "x.jsonl, line 1: the field 'text' holds int, not text"),
        ("x.json", b'{\n"text": "a"', "x.json: not JSON"),
        ("x.csv", b"id,text\n1,a\n2,b,c\n", "x.csv, row 3: 3 fields, where the header has 2"),
        ("x.csv", b"a,b\n1,2\n", "x.csv, row 2: no text in field 'text'; the fields are a, b"),
        ("x.xml", b"<?xml version='1.0'?>\n<a><b></a>", "x.xml, line 2: not XML"),
        ("wiki_00", b'<doc id="1">\nA\n<doc id="2">\nB\n</doc>\n', "wiki_00, line 1: an article without </doc>"),
        ("wiki_00", b'<doc id="1">\nA\n</doc>\nB\n', "wiki_00, line 4: text outside of <doc> and </doc>"),
        ("x.parquet", forms()["x.parquet"][:-1], "x.parquet: cannot be read"),
        ("x.parquet.gz", gzip.compress(forms()["x.parquet"], mtime=0)[:-9], "x.parquet.gz: cannot be read"),
        ("x.warc", forms()["x.warc"][:-30], "x.warc, after document 2: cannot be read: it ends in the middle"),
        ("x.warc", forms()["x.warc"].replace(b"WARC/1.0\r\nWARC-Type: req", b"XARC/"), "x.warc: cannot be read"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read(tmp_path / name, unreadable="stop")
    assert any(isinstance(item, Rejected) and item.reason == "unreadable" for item in read(tmp_path / name))


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"\x00\x00\x00\x01Bud1" + bytes(40), ".DS_Store"),
        (b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X", "AppleDouble file"),
        (b"PK\x03\x04" + bytes(40), "zip archive or office document"),
        (gzip.compress(bytes(257) + b"ustar" + bytes(250), mtime=0), "tar archive"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "PNG image"),
        (b"%PDF-1.4\n" + b"text " * 40, "PDF"),
        (bytes(range(256)) * 4, "binary data"),
        (b"\x80\x04\x95\x10\x00\x00\x00\x00\x00\x00\x00c__builtin__\neval\n", "binary data"),
    ],
)
def test_junk_is_known_whatever_its_name(tmp_path, data, what):
    for name in ("x.jsonl", "x.txt", "x"):
        (tmp_path / name).write_bytes(data)
        (item,) = read(tmp_path / name, unreadable="stop")
        assert (item.reason, item.detail, item.place) == ("not text", what, "")


def test_content_goes_before_the_name(tmp_path):
    for name, data in forms().items():
        if name not in ("x.csv", "x.tsv", "x.txt", "x.json"):  # which look like any text
            (tmp_path / "x.txt").write_bytes(data)
            assert texts_of(tmp_path / "x.txt") == expected(name)
    (tmp_path / "x.jsonl.bz2").write_bytes(forms()["x.jsonl"])
    assert texts_of(tmp_path / "x.jsonl.bz2") == TEXTS


def test_tables_against_the_csv_module(tmp_path):
    """Quoted line feeds, quotes and commas; several text columns; no header; other delimiters."""
    rows = [["a,b", '他说"好"', "一\n二"], ["", "三", ""], ["x", "四", "五"]]
    stream = io.StringIO()
    csv.writer(stream).writerows([["n", "first", "second"], *rows])
    (tmp_path / "x.csv").write_bytes(b"\xef\xbb\xbf" + stream.getvalue().encode())
    joined = ['他说"好"\n一\n二', "三", "四\n五"]
    assert texts_of(tmp_path / "x.csv", text_field="first,second,third") == joined
    assert texts_of(tmp_path / "x.csv", text_field="2,3", header=False) == ["first\nsecond", *joined]
    (tmp_path / "x.csv").write_text("id;text\n1;一,二\n", encoding="utf-8")
    assert texts_of(tmp_path / "x.csv") == ["一,二"]
    (tmp_path / "x.tsv").write_text('id\ttext\n1\t"没有结束\n2\t下一行\n', encoding="utf-8")
    assert texts_of(tmp_path / "x.tsv") == ['"没有结束', "下一行"]


def test_parquet_columns_of_every_text_type(tmp_path):
    texts = [*TEXTS, None, ""]
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        pq.write_table(pa.table({"text": pa.array(texts, kind)}), tmp_path / "x.parquet", row_group_size=2)
        items = read(tmp_path / "x.parquet")
        assert [item.text for item in items[:3]] == TEXTS
        assert [(item.reason, item.place) for item in items[3:]] == [("no text", "row 4"), ("no text", "row 5")]


def test_a_parquet_file_that_is_compressed_as_a_whole(tmp_path):
    for suffix, compress in COMPRESSIONS.items():
        path = tmp_path / f"x.parquet{suffix}"
        path.write_bytes(compress(forms()["x.parquet"]))
        assert [item.text for item in read(path)] == TEXTS
    path.write_bytes(path.read_bytes()[:-20])
    (cut,) = read(path, unreadable="reject")
    assert cut.reason == "unreadable" and "in the middle of a compressed frame" in cut.detail


def test_web_pages_in_brotli(tmp_path):
    """Whole, cut off, undone by the crawler, and one that would fill the memory."""
    about = "application/http; msgtype=response"
    packed = brotli.compress(page(TEXTS[0]).encode())
    bomb = brotli.compress(b"<p>" + b"a" * 50_000_000)
    bodies = [packed, packed[:-3], page(TEXTS[1]).encode(), bomb]
    records = [
        warc_record("response", f"http://a/{number}", response(body, "Content-Encoding: br"), about)
        for number, body in enumerate(bodies)
    ]
    (tmp_path / "x.warc").write_bytes(b"".join(records))
    tracemalloc.start()
    whole, cut, undone, long = read(tmp_path / "x.warc", max_megabytes=5, unreadable="reject")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()
    assert (whole.text, undone.text) == (TEXTS[0], TEXTS[1])
    assert (cut.reason, cut.detail) == ("unreadable", "cannot be uncompressed: it ends too soon")
    assert long.reason == "too long"


def test_web_archives(tmp_path):
    about = "application/http; msgtype=response"
    data = b"".join(
        [
            warc_record("response", "http://a/1", response(page(TEXTS[0]).encode(), status="404 Not Found"), about),
            warc_record("response", "http://a/2", b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\n\r\n\x89PNG", about),
            warc_record("response", "http://a/3", response(page(TEXTS[1]).encode("gb18030")), about),
            warc_record("conversion", "http://a/4", TEXTS[2].encode(), "text/plain"),
        ]
    )
    for content in (data, gzip.compress(data), b"".join(gzip.compress(part) for part in (data[:500], data[500:]))):
        (tmp_path / "x.warc.gz").write_bytes(content)
        missing, image, html, text = read(tmp_path / "x.warc.gz", unreadable="stop")
        assert (missing.reason, missing.detail) == ("no text", "HTTP status 404")
        assert (image.reason, image.detail, image.place) == ("not text", "image/png", "record 2 (http://a/2)")
        assert (html.id, html.text, text.id, text.text) == ("http://a/3", TEXTS[1], "http://a/4", TEXTS[2])


def test_a_document_of_one_character_and_one_that_is_too_long(tmp_path):
    limit = 1e-3  # 1000 bytes
    long = json.dumps({"text": "长" * 400}, ensure_ascii=False)
    (tmp_path / "x.jsonl").write_text('{"text": "一"}\n' + long + '\n{"text": "二"}', encoding="utf-8")
    first, rejected, last = read(tmp_path / "x.jsonl", max_megabytes=limit)
    assert (first.text, rejected.reason, rejected.place, last.text) == ("一", "too long", "line 2", "二")
    (tmp_path / "x.txt").write_text("一\n\n" + "长长长长\n" * 100 + "\n二", encoding="utf-8")
    first, rejected, last = read(tmp_path / "x.txt", max_megabytes=limit)
    assert (first.text, rejected.reason, rejected.place, last.text) == ("一", "too long", "line 3", "二")
    for name in ("x.html", "x.xml", "x.7", "x.json", "x.csv", "wiki_00"):
        data = forms()[name].decode().replace(TEXTS[0][:4], "长" * 400)
        (tmp_path / name).write_text(data, encoding="utf-8")
        items = read(tmp_path / name, max_megabytes=limit)
        assert [item.reason for item in items if isinstance(item, Rejected)] == ["too long"], name


def test_giants_are_read_in_bounded_memory(tmp_path):
    """A line of 300 MB is passed over at the default limit, one of 100 MB is read; neither is held twice over."""
    with zstd.open(tmp_path / "x.jsonl.zst", "wb", level=1) as stream:
        for size in (300, 100):
            stream.write(b'{"text": "')
            for _ in range(size):
                stream.write("国".encode() * 333_333)
            stream.write(b'"}\n')
    program = (
        "import sys, resource; from data_tools.documents.files import find_files\n"
        "from data_tools.documents.readers import read_documents, ReaderConfig\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "items = read_documents(find_files(sys.argv[1:]), ReaderConfig())\n"
        "sizes = [len(getattr(item, 'text', '')) for item in items]\n"
        "print(*sizes, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    result = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    passed, read_whole, kilobytes = map(int, result.stdout.split())
    assert (passed, read_whole) == (0, 33_333_300)
    assert kilobytes < 800_000


@pytest.mark.parametrize("tag", ["div", "section", "article", "table><tr><td", "p", "b", "ul><li"])
def test_a_page_of_endless_depth_takes_no_endless_time(tmp_path, tag):
    (tmp_path / "x.html").write_text("<!doctype html>" + f"<{tag}>" * 100_000 + "深处", encoding="utf-8")
    assert len(read(tmp_path / "x.html")) == 1


@pytest.mark.parametrize(
    ("name", "begin", "middle", "end"),
    [
        ("x.xml", "<?xml version='1.0'?><a>", "一&amp;", "</a>"),
        ("x.xml", "<?xml version='1.0'?>", "<!-- -->", "<a>一</a>"),
        ("x.7", ".TH X 7\n", "一\n", ""),
        ("x.txt", "", "一\n", ""),
        ("x.txt", "", "一\r", ""),
        ("x.csv", 'text\n"', '""一\n', '"'),
        ("wiki", '<doc id="1">\n', "一\n", "</doc>"),
        ("x.html", "<?xml?><html>", "<p/><", "一"),
    ],
)
def test_time_is_linear(tmp_path, name, begin, middle, end):
    """A document of 300,000 small parts, or a head that could be many things, takes seconds at most."""
    (tmp_path / name).write_text(begin + middle * 300_000 + end, encoding="utf-8")
    started = time.process_time()
    assert len(read(tmp_path / name)) == 1
    assert time.process_time() - started < 10


def test_roff_is_what_man_shows(tmp_path):
    source = r"""'\" a comment
.TH LS 1 2022年9月 "GNU coreutils" 用户命令
.de Sh
.PP
..
.if n .ad l
.SH 名称
ls \- 列出\fB目录\fP内容 \" not this
.SH 描述
.PP
列出
.BR 文件 (5)
的信息，
按字母排序\(em默认。
.TP
\fB\-a\fP, \fB\-\-all\fP
不隐藏 \&.
和 C\+\[u4E2D]\e
.nf
a   b
c
.fi
"""
    (tmp_path / "ls.1").write_text(source, encoding="utf-8")
    assert texts_of(tmp_path / "ls.1") == [
        "名称\nls - 列出目录内容\n描述\n列出文件(5)的信息，按字母排序—默认。\n-a, --all\n不隐藏 .和 C中\\\na   b\nc"
    ]


def test_inputs_are_found_once_and_in_order(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("b/2.txt", "b/10.txt", "b/c/1", "b/.hidden", "a.txt", "odd [name].txt"):
        (tmp_path / name).write_text("一", encoding="utf-8")

    def found(*inputs):
        return [
            file.url.removeprefix(f"{tmp_path}/").removeprefix(f"file://{tmp_path}/") for file in find_files(inputs)
        ]

    in_b = ["b/.hidden", "b/10.txt", "b/2.txt", "b/c/1"]
    assert found(tmp_path / "b") == in_b
    assert found(f"{tmp_path}/**/*.txt") == ["a.txt", "b/10.txt", "b/2.txt", "odd [name].txt"]
    (tmp_path / "b" / "loop").symlink_to(tmp_path)
    assert found(tmp_path / "b") == [*in_b, "b/loop/a.txt", "b/loop/odd [name].txt"]
    (tmp_path / "b" / "loop").unlink()
    assert found(tmp_path / "a.txt", tmp_path / "*.txt") == ["a.txt", "odd [name].txt"]
    assert found(tmp_path / "odd [name].txt") == ["odd [name].txt"]
    assert sorted(found(f"file://{tmp_path}/b/c")) == ["b/c/1"]
    assert found(f"file://{tmp_path}/*.txt") == ["a.txt", "odd [name].txt"]
    assert texts_of(f"file://{tmp_path}/a.txt") == ["一"]
    (tmp_path / "empty").mkdir()
    for wrong, message in [
        ("none.txt", "no such file"),
        ("*.none", "nothing matches"),
        ("empty", "no file in this folder"),
    ]:
        with pytest.raises(ValueError, match=message):
            find_files([tmp_path / wrong])
    with pytest.raises(ValueError, match=r"cannot be opened|nothing there"):
        find_files(["nonsense://x/y"])
