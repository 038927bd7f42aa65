"""The same few texts in every format that is read."""

from __future__ import annotations

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_tools.documents.files import find_files
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents

TEXTS = [
    "春天来了，花园里的花都开了。\n孩子们在草地上跑来跑去，笑声不断。",
    "这家公司去年的收入增长了百分之二十，今年还要更多。",
    "科学家发现，海洋的温度正在升高，这对气候有很大的影响。",
]
TRADITIONAL = "春天來了，花園裡的花都開了。孩子們在草地上跑來跑去，笑聲不斷。"


def page(text: str, extra: str = "") -> str:
    """An HTML page with a text as its article, between things that are not."""
    paragraphs = "".join(f"<p>{line}</p>" for line in text.split("\n"))
    return (
        f"<!DOCTYPE html><html><head><title>题目</title><style>p {{}}</style></head><body{extra}>"
        f"<nav><a href='/'>首页</a></nav><article>{paragraphs}</article><script>var x = '没有';</script></body></html>"
    )


def warc_record(kind: str, url: str, body: bytes, content_type: str) -> bytes:
    """One record of a web archive."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2020-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:{url}>\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body + b"\r\n\r\n"


def response(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """One HTTP response."""
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: text/html", *headers, "", ""]).encode() + body


def _table(delimiter: str) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter)
    writer.writerow(["id", "text"])
    writer.writerows((str(number), text.replace("\n", " ")) for number, text in enumerate(TEXTS))
    return stream.getvalue().encode()


def _parquet() -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table({"id": ["0", "1", "2"], "n": [1, 2, 3], "text": TEXTS}), stream)
    return stream.getvalue()


def _warc() -> bytes:
    gb = page(TEXTS[1]).encode("gb18030")
    chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (len(gb), gb)
    zipped = gzip.compress(page(TEXTS[2]).encode())
    about = "application/http; msgtype=response"
    return (
        warc_record("warcinfo", "", b"software: none\r\n", "application/warc-fields")
        + warc_record("request", "http://a.cn/0", b"GET / HTTP/1.1\r\n\r\n", "application/http; msgtype=request")
        + warc_record("response", "http://a.cn/0", response(page(TEXTS[0]).encode()), about)
        + warc_record("response", "http://a.cn/1", response(chunked, "Transfer-Encoding: chunked"), about)
        + warc_record("response", "http://a.cn/2", response(zipped, "Content-Encoding: gzip"), about)
    )


def forms() -> dict[str, bytes]:
    """TEXTS, or for a format of one document a file the first of them, by the name of a file that holds them."""
    records = [{"id": str(number), "text": text} for number, text in enumerate(TEXTS)]
    xml = "".join(f"<p>{line}</p>" for line in TEXTS[0].split("\n"))
    wiki = "".join(f'<doc id="{n}" url="?curid={n}" title="题">\n{text}\n\n</doc>\n' for n, text in enumerate(TEXTS))
    return {
        "x.jsonl": "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode(),
        "x.json": json.dumps(records, indent=1, ensure_ascii=False).encode(),
        "x.csv": _table(","),
        "x.tsv": _table("\t"),
        "x.txt": "\n\n".join(TEXTS).encode(),
        "x.html": page(TEXTS[0]).encode(),
        "x.xhtml": ('<?xml version="1.0"?>' + page(TEXTS[0]).replace("<script>", '<script src="x"/><script>')).encode(),
        "x.xml": f'<?xml version="1.0" encoding="utf-8"?><book><!-- no --><chapter>{xml}</chapter></book>'.encode(),
        "wiki_00": wiki.encode(),
        "x.7": (".TH X 7\n" + "".join(f".PP\n{line}\n" for line in TEXTS[0].split("\n"))).encode(),
        "x.parquet": _parquet(),
        "x.warc": _warc(),
    }


def read(path: str | Path, **options: Any) -> list[Any]:
    """All that a path holds, with what cannot be read rejected unless the options say otherwise."""
    return list(read_documents(find_files([path]), ReaderConfig(**{"unreadable": "reject", **options})))
