"""A web server on loopback that can be as bad as real ones are."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@dataclasses.dataclass
class Server:
    """A folder, served.

    Attributes:
        url: of the folder.
        ranges: whether a part of a file can be had.
        bad: of the number of a request, what goes wrong: a status, ``drop`` (no answer), ``hang`` (none either,
            and the connection stays), ``cut`` (half of the body), ``flip`` (one bit is another), or nothing.
        requests: the paths asked for, in order.
    """

    url: str
    ranges: bool
    bad: Callable[[int], str]
    requests: list[str] = dataclasses.field(default_factory=list)


@contextlib.contextmanager
def served(folder: Path, ranges: bool = True, bad: Callable[[int], str] = lambda number: "") -> Iterator[Server]:
    """A server of a folder, for as long as it lasts."""
    numbers = itertools.count(1)
    closing = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = 1 << 16  # headers and body in one go, or each answer waits for an acknowledgement

        def do_GET(self) -> None:
            server.requests.append(self.path)
            wrong = server.bad(next(numbers))
            path = folder / self.path.lstrip("/")
            if wrong == "hang":
                closing.wait()
            if wrong in ("drop", "hang"):
                self.close_connection = True
                return
            if wrong.isdigit() or not path.is_file():
                self.send_error(int(wrong or 404))
                return
            data = bytearray(path.read_bytes())
            part = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if server.ranges else None
            if part:
                data = data[int(part[1]) : int(part[2]) + 1]
            if wrong == "flip":
                data[len(data) // 2] ^= 4
            self.send_response(206 if part else 200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if wrong == "cut":
                data = data[: len(data) // 2]
                self.close_connection = True
            self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    server = Server(f"http://127.0.0.1:{http.server_address[1]}", ranges, bad)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        closing.set()
        http.shutdown()
        thread.join()
        http.server_close()
