"""DCMTK's storescp as a destination, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

HOST = "127.0.0.1"
_START_TIMEOUT_S = 30.0


@contextmanager
def storescp(program: Path, folder: Path, port: int, *options: str | Path) -> Iterator[Path]:
    """Run it; give the folder with what it received."""
    folder.mkdir()
    log = folder.with_suffix(".log")
    with (
        log.open("wb") as written,
        subprocess.Popen(
            [program, *options, "-od", folder, str(port)],
            env=os.environ | {"TCP_NODELAY": "1"},
            stdout=written,
            stderr=written,
        ) as process,
    ):
        try:
            _wait_until_it_listens(process, port, log)
            yield folder
        finally:
            process.terminate()


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline:
        try:
            socket.create_connection((HOST, port)).close()
            return
        except ConnectionRefusedError:
            try:
                process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
        break
    raise AssertionError(f"storescp does not listen: {log.read_text(errors='replace')}")
