"""A receiver as a process group of its own in a fresh folder; the node as one of them."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

from dicom_node.config.settings import Config
from tests.bench import measure
from tests.bench.association import HOST, Association, PeerFailed, echo_request
from tests.certificates import Authority, Holder
from tests.conftest import ROOT, find_program

_START_TIMEOUT_S = 60.0
_STOP_TIMEOUT_S = 60.0
_RECORD_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.02


class NotHere(Exception):
    """A receiver cannot be started on this machine or at this state of the code; says why."""


class Receiver:
    """One that is started, asked what it keeps, and stopped; leaving the `with` block stops it.

    Parameters
    ----------
    folder : Path
        Fresh; everything it writes goes there.
    authority, holder : Authority, Holder
        Given where it shall speak TLS: whom it trusts, and who it is.
    """

    title = ""
    called = "ANY-SCP"

    def __init__(
        self, folder: Path, authority: Authority | None = None, holder: Holder | None = None
    ) -> None:
        self.folder = folder
        self.tls = None if authority is None or holder is None else (authority, holder)
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        """Return what to run, its files written."""
        raise NotImplementedError

    def stored(self) -> int | None:
        """Return how many instances it has, None if it keeps none; asked after it has stopped."""
        return None

    def receiving(self) -> list[int]:
        """Return the processes that read from the network."""
        return self.processes()

    def wait_recorded(self, instances: int) -> float:
        """Wait for the work behind the answers; return how many seconds that took."""
        return 0.0

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def processes(self) -> list[int]:
        return measure.tree(self.pid)

    def ending(self) -> str | None:
        """Say how it ended, None while it runs."""
        assert self._process is not None
        code = self._process.poll()
        return None if code is None else f"it ended by itself ({code}): {self.log()[-300:].strip()}"

    def log(self) -> str:
        return (self.folder / "receiver.log").read_text(errors="replace")

    def start(self) -> Self:
        """Start it, wait for its C-ECHO, and let it come to rest."""
        self.folder.mkdir(parents=True)
        command = self.command()
        # Debian's DCMTK leaves Nagle on otherwise, and every answer then waits 40 ms
        environment = os.environ | {"TCP_NODELAY": "1", "OMP_NUM_THREADS": "1"}
        with (self.folder / "receiver.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not self.listens():
            if (ending := self.ending()) is not None:
                raise NotHere(ending)
            if time.monotonic() > deadline:
                raise NotHere(f"it does not listen after {_START_TIMEOUT_S:g} s")
            time.sleep(_LOOK_EVERY_S)
        measure.settle(self.pid)
        return self

    def stop(self) -> None:
        """End it, and whatever it started."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOP_TIMEOUT_S)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.stop()
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def listens(self) -> bool:
        """Return whether it answers a C-ECHO."""
        if self.tls:  # what speaks TLS alone is taken as ready when it takes a connection
            try:
                socket.create_connection((HOST, self.port)).close()
            except OSError:
                return False
            return True
        try:
            with Association(self.port, echo_request(self.called)) as association:
                association.echo()
        except (OSError, PeerFailed):
            return False
        return True


class Ours(Receiver):
    """The node as it is run: supervisor, receiver and worker; durable when it answers."""

    title = "dicom_node serve"
    called = "DICOM_NODE"

    def command(self) -> list[str]:
        settings: dict[str, Any] = {
            "node": {
                "ae_title": self.called,
                "data_dir": "data",
                "engines_dir": "engines",
                "rules_file": "rules.yaml",
            },
            "receive": {"host": HOST, "port": self.port, "free_bytes_min": 0},
            "peers": {"scanner": {"ae_title": "SCANNER", "may_send": True}},
        }
        if self.tls:
            if "tls" not in Config.model_fields:
                raise NotHere("node.yaml has no section `tls` yet")
            authority, holder = self.tls
            settings["receive"]["port"] = free_port()
            settings["tls"] = {
                "port": self.port,
                "certificate": str(holder.certificate),
                "key": str(holder.key),
                "authorities": str(authority.certificate),
            }
        (self.folder / "engines").mkdir()
        (self.folder / "rules.yaml").write_text("rules: []\n")
        config = self.folder / "node.yaml"
        config.write_text(yaml.safe_dump(settings))
        return [sys.executable, "-m", "dicom_node", "serve", "--config", str(config)]

    def start(self) -> Self:
        super().start()
        self._receivers = self._started_receivers()
        return self

    def receiving(self) -> list[int]:
        return self._receivers

    def _started_receivers(self) -> list[int]:
        """Return the receiver children, as their last starts were logged."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        started = [line for line in lines if line.get("event") == "child_started"]
        pids: dict[str, int] = {line["child"]: line["pid"] for line in started}
        return [pid for name, pid in pids.items() if name.startswith("receiver")]

    def wait_recorded(self, instances: int) -> float:
        start = time.monotonic()
        while self.stored() < instances and time.monotonic() - start < _RECORD_TIMEOUT_S:
            time.sleep(_LOOK_EVERY_S)
        return time.monotonic() - start

    def stored(self) -> int:
        return count_rows(self.folder / "data" / "ledger.sqlite", "SELECT count(*) FROM instances")


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody has.

    It lies below the ports that the system hands out by itself (ip(7), ip_local_port_range): one of
    those could become the near end of somebody's connection before the receiver listens.
    """
    while True:
        port = random.randrange(20000, 32768)
        try:
            socket.create_server((HOST, port)).close()
        except OSError:
            continue
        return port


def program(name: str) -> str:
    found = find_program(name)
    if found is None:
        raise NotHere(f"{name} is not installed")
    return str(found)


def count_rows(database: Path, query: str) -> int:
    try:
        with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5)) as reader:
            [(count,)] = reader.execute(query)
    except sqlite3.OperationalError as error:
        raise PeerFailed(f"its database cannot be read: {error}") from error
    return int(count)
