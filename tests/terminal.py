"""Commands as a terminal starts them."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Any

# In this environment, as it is; of a make within a make, only what its commands print.
MAKE = ("make", "--no-print-directory", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.installed")


def started(command: list[str] | tuple[str, ...], **more: Any) -> subprocess.Popen[str]:
    """A command in a session of its own, so that a signal to its group is a Ctrl-C at its terminal.

    A shell starts what is to run in the background with Ctrl-C ignored, and children inherit that: it heeds it.
    """

    def heed() -> None:
        signal.signal(signal.SIGINT, signal.SIG_DFL)

    return subprocess.Popen(command, text=True, start_new_session=True, preexec_fn=heed, **more)
