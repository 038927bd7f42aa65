"""How fast each format is read, on one core: python benchmarks/readers.py [jsonl of documents] [megabytes]

The same documents are written in every format and read back; MB/s are of UTF-8 text that comes out, median of three.
The last line is one JSON object.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import html
import io
import itertools
import json
import lzma
import statistics
import sys
import tempfile
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from backports import zstd

from data_tools.documents.document import Document
from data_tools.documents.files import find_files
from data_tools.documents.reader_config import ReaderConfig
from data_tools.documents.readers import read_documents
from litebert.plan.processor import processor

DEFAULT = Path(__file__).parents[2] / "shared" / "corpus" / "sample.jsonl.xz"


def written(texts: list[str], folder: Path) -> dict[str, list[Path]]:
    """The texts in every format, as files by what they are."""
    lines = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts).encode()
    table = io.StringIO()
    csv.writer(table).writerows([["text"], *([text] for text in texts)])
    plain = "\n\n".join(" \n".join(filter(str.strip, text.splitlines())) for text in texts)
    wiki = "".join(f'<doc id="{number}">\n{html.escape(text)}\n</doc>\n' for number, text in enumerate(texts))
    pages = ["".join(f"<p>{html.escape(line)}</p>\n" for line in text.splitlines()) for text in texts]
    pages = [
        f"<!doctype html><html><head></head><body><div><article>{page}</article></div></body></html>" for page in pages
    ]
    files = {
        "jsonl": {"x.jsonl": lines},
        "jsonl.gz": {"x.jsonl.gz": gzip.compress(lines, 6)},
        "jsonl.bz2": {"x.jsonl.bz2": bz2.compress(lines)},
        "jsonl.xz": {"x.jsonl.xz": lzma.compress(lines, preset=3)},
        "jsonl.zst": {"x.jsonl.zst": zstd.compress(lines)},
        "csv": {"x.csv": table.getvalue().encode()},
        "text": {"x.txt": plain.encode()},
        "text, GB18030": {"gb.txt": plain.encode("gb18030")},
        "WikiExtractor": {"wiki": wiki.encode()},
        "roff": {f"{number}.7": b".TH X 7\n" + text.encode() for number, text in enumerate(texts)},
        "html": {f"{number}.html": page.encode() for number, page in enumerate(pages)},
        "warc": {"x.warc": b"".join(map(record, pages))},
    }
    paths = {}
    for number, (name, parts) in enumerate(files.items()):
        (folder / str(number)).mkdir()
        for part, data in parts.items():
            (folder / str(number) / part).write_bytes(data)
        paths[name] = [folder / str(number)]
    pq.write_table(pa.table({"text": texts}), folder / "x.parquet", compression="zstd")
    return {**paths, "parquet": [folder / "x.parquet"]}


def record(page: str) -> bytes:
    """A page as a record of a web archive."""
    body = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + page.encode()
    head = f"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: {len(body)}\r\n\r\n".encode()
    return head + body + b"\r\n\r\n"


def megabytes_per_second(inputs: list[Path]) -> tuple[float, int]:
    """Of text that comes out, and the number of documents."""
    speeds = []
    for _ in range(3):
        begin = time.process_time()
        items = [item for item in read_documents(find_files(inputs), ReaderConfig()) if isinstance(item, Document)]
        seconds = time.process_time() - begin
        speeds.append(sum(len(item.text.encode()) for item in items) / 1e6 / seconds)
    return statistics.median(speeds), len(items)


def main() -> None:
    corpus = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    size = float(sys.argv[2]) if len(sys.argv) > 2 else 10.0
    items = read_documents(find_files([corpus]), ReaderConfig())
    texts = [item.text for item in items if isinstance(item, Document)]
    ends = itertools.accumulate(len(text.encode()) for text in texts)
    texts = [text for text, end in zip(texts, ends, strict=True) if end < size * 1e6]
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, inputs in written(texts, Path(folder)).items():
            speed, documents = megabytes_per_second(inputs)
            figures[name] = round(speed, 1)
            print(f"{name:16} {speed:8.1f} MB/s  {documents:7,} documents", flush=True)
    print(json.dumps({"mb_per_s": figures, "documents": len(texts), "processor": processor()}))


if __name__ == "__main__":
    main()
