"""A whole node as a process group of its own, to be started, killed and started again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import func, select

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.scanner import echo
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState, StudyState

ROOT = Path(__file__).parent.parent
START_TIMEOUT_S = 60.0


def wait_until(holds: Callable[[], bool], timeout_s: float = 60.0, what: str = "it") -> None:
    """Look every 50 ms until it holds; fail loudly after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"{what} did not come true within {timeout_s:g} s"
        time.sleep(0.05)


class NodeProcess:
    """`dicom-node serve` with a configuration of its own below `folder`.

    Parameters
    ----------
    sections : mapping
        Sections of node.yaml that differ from the test's defaults.
    """

    def __init__(self, folder: Path, port: int, **sections: Any) -> None:
        self.folder = folder
        self.port = port
        self.config_file = folder / "node.yaml"
        settings: dict[str, Any] = {
            "node": {
                "ae_title": "DICOM_NODE",
                "data_dir": "data",
                "engines_dir": str(ROOT / "engines"),
                "rules_file": str(ROOT / "config" / "rules.yaml"),
            },
            "receive": {
                "host": "127.0.0.1",
                "port": port,
                "free_bytes_min": 0,
                "segment_bytes": 16_777_216,
                "segments_ready": 1,
            },
            "assemble": {
                "quiet_after_release_s": 0.3,
                "quiet_otherwise_s": 1.0,
                "longest_wait_s": 2.0,
            },
            # Two nodes are compared by the bits of their results; each could choose another one.
            "infer": {"retry_first_s": 0.2, "runtime": "onnxruntime"},
            "deliver": {"retry_first_s": 0.2, "retry_longest_s": 1, "timeout_s": 5},
            "peers": {"scanner": {"ae_title": "SCANNER", "may_send": True}},
        }
        for name, section in sections.items():
            settings[name] = {**settings.get(name, {}), **section}
        folder.mkdir(parents=True, exist_ok=True)
        self.config_file.write_text(yaml.safe_dump(settings))
        self.data = folder / "data"
        ledger = settings.get("ledger", {})
        self.ledger_url: str = ledger.get("url", f"sqlite:///{self.data / 'ledger.sqlite'}")
        self._process: subprocess.Popen[bytes] | None = None

    def start(
        self, kill_at: str = "", nth: int = 1, *, until_it_listens: bool = True
    ) -> NodeProcess:
        """Start the node; with `kill_at` it kills itself, once, at the n-th such checkpoint."""
        return self._start(kill_at, str(nth), "group", until_it_listens)

    def start_crashing(self, engine: str, times: int) -> NodeProcess:
        """Start the node; its worker dies the first so many times that it starts an engine."""
        passings = " ".join(str(number + 1) for number in range(times))
        return self._start(f"infer.started:{engine}", passings, "process", True)

    def _start(self, kill_at: str, passings: str, what: str, until_it_listens: bool) -> NodeProcess:
        command = [sys.executable, "-m", "tests.fault.crashing_node", str(self.config_file)]
        environment = os.environ | {
            "KILL_AT": kill_at,
            "KILL_PASSINGS": passings,
            "KILL_WHAT": what,
            "KILL_FOLDER": str(self.folder),
            "OMP_NUM_THREADS": "1",
        }
        with (self.folder / "node.log").open("a") as log:
            self._process = subprocess.Popen(
                command, stderr=log, stdout=log, cwd=ROOT, env=environment, start_new_session=True
            )
        if until_it_listens:
            self.wait_listening()
        return self

    def is_running(self) -> bool:
        assert self._process is not None
        return self._process.poll() is None

    def wait_listening(self) -> None:
        wait_until(self._answers, START_TIMEOUT_S, "the node's C-ECHO")

    def kill(self) -> None:
        """kill -9 the whole process group: supervisor, receiver and worker at once."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)

    def wait_killed(self, timeout_s: float = 60.0) -> None:
        """Wait for the node to kill itself at its checkpoint."""
        assert self._process is not None
        assert self._process.wait(timeout_s) == -signal.SIGKILL

    def stop(self) -> int:
        """SIGTERM; return the exit code."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(60)
        except subprocess.TimeoutExpired:
            self.kill()
            raise

    def hang_up(self) -> None:
        """SIGHUP: have the node read its rules anew."""
        assert self._process is not None
        self._process.send_signal(signal.SIGHUP)

    def stop_group(self) -> int:
        """SIGTERM to every process of the node; return the supervisor's exit code."""
        assert self._process is not None
        os.killpg(self._process.pid, signal.SIGTERM)
        return self._process.wait(60)

    def ledger(self) -> Ledger:
        return Ledger(self.ledger_url)

    def wait_done(self, studies: int, timeout_s: float = 90.0) -> None:
        """Wait until so many studies are routed and nothing is open."""
        ledger = self.ledger()
        try:
            wait_until(lambda: is_done(ledger, studies), timeout_s, "the end of all work")
        finally:
            ledger.close()

    def associations_ended(self) -> int:
        """Return how many associations that carried something have ended, by the ledger."""
        database = Database(self.ledger_url)
        query = select(func.count()).where(schema.associations.c.closed_at.is_not(None))
        try:
            with database.reading() as connection:
                return int(connection.execute(query).scalar_one())
        finally:
            database.close()

    def child_pid(self, name: str) -> int:
        """Return the process ID of a child, as its last start was logged."""
        lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        started = [line for line in lines if line["event"] == "child_started"]
        pids: list[int] = [line["pid"] for line in started if line["child"] == name]
        return pids[-1]

    def run_cli(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run another command of `dicom-node` on this node's configuration."""
        whole = [sys.executable, "-m", "dicom_node", command, *arguments]
        whole += ["--config", str(self.config_file)]
        return subprocess.run(whole, capture_output=True, text=True, cwd=ROOT, check=False)

    def log(self) -> str:
        return (self.folder / "node.log").read_text()

    def _answers(self) -> bool:
        assert self.is_running(), self.log()[-2000:]
        try:
            return echo("127.0.0.1", self.port, called="DICOM_NODE", timeout_s=5) == 0
        except PeerUnreachable:
            return False


def node_without_engines(folder: Path, port: int, **sections: Any) -> NodeProcess:
    """Return a node that only receives."""
    engines, rules = folder / "engines", folder / "rules.yaml"
    engines.mkdir(parents=True)
    rules.write_text(yaml.safe_dump({"rules": []}))
    paths = {"engines_dir": str(engines), "rules_file": str(rules)}
    return NodeProcess(folder / "node", port, **{"node": paths, **sections})


def is_done(ledger: Ledger, studies: int) -> bool:
    routed = ledger.studies.in_states([StudyState.ROUTED])
    moving = ledger.studies.in_states([StudyState.RECEIVING, StudyState.COMPLETE])
    open_jobs = ledger.jobs.in_states(JobState.QUEUED, JobState.RUNNING)
    open_deliveries = ledger.deliveries.in_states(
        DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT
    )
    return len(routed) == studies and not (moving or open_jobs or open_deliveries)
