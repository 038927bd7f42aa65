"""Teachers announce themselves in a folder, and what else lies there is left alone."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from pathlib import Path

from litebert.distill.addresses import Address, announced, found
from litebert.distill.serving import ServeConfig


def test_the_dead_are_cleared_away(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    with announced(tmp_path, Address("grpc://dead:1", "z")):
        (own,) = tmp_path.iterdir()
    (tmp_path / own.name.replace(str(os.getpid()), str(dead.pid))).write_text("{}")
    (tmp_path / "elsewhere-1.json").write_text(json.dumps({"uri": "grpc://elsewhere:1", "token": "x"}))
    with announced(tmp_path, Address("grpc://here:2", "y")):
        assert {each.uri for each in found([str(tmp_path)], "", "").addresses} == {
            "grpc://elsewhere:1",
            "grpc://here:2",
        }
    assert [path.name for path in tmp_path.iterdir()] == ["elsewhere-1.json"]


def test_hosts_and_addresses(tmp_path: Path) -> None:
    assert ServeConfig(tmp_path, host="[::1]").is_local and ServeConfig(tmp_path, host="localhost").is_local
    assert not ServeConfig(tmp_path, host="10.1.2.3").is_local and not ServeConfig(tmp_path, host="here").is_local
    elsewhere = tmp_path / f"{socket.gethostname()}-1-4194303.json"  # of a host whose name begins as ours
    elsewhere.write_text("{}")
    with announced(tmp_path, Address("grpc://here:2", "y")):
        assert elsewhere.exists()
