"""What the environment says of a meeting, and must be a number."""

from __future__ import annotations

import os
from unittest import mock

import pytest

from litebert.train.place import RANKED, SRUN, Place
from litebert.train.rendezvous import meet

ADDRESS = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}


@pytest.mark.parametrize("launcher", [RANKED, SRUN])
@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("RENDEZVOUS_SECONDS", "5m", "no number of seconds: set one, such as 300"),
        ("RENDEZVOUS_SECONDS", "", "no number of seconds"),
        ("RENDEZVOUS_SECONDS", "nan", "no number of seconds"),
        ("RENDEZVOUS_SECONDS", "-1", "no number of seconds"),
        ("MASTER_PORT", "http", "no whole number: set one"),
    ],
)
def test_what_is_no_number_is_named(launcher: str, name: str, text: str, words: str) -> None:
    changed = ADDRESS | {name: text}
    with (
        mock.patch.dict(os.environ, changed),
        pytest.raises(ValueError, match=f"^{name}={text} is in the environment, and is {words}"),
    ):
        meet(Place(0, 2, launcher=launcher))
