"""The supervisor's end of the worker: crashes and hangs count for the job that was in hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.config.settings import Config, InferSettings, NodeSettings
from dicom_node.engine_worker import EngineWorker
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from tests.node_process import wait_until
from tests.unit import crashing
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_job, job_of, moves_of

pytestmark = pytest.mark.slow  # each process loads its libraries: seconds

ENGINES = Path(__file__).parents[2] / "engines"
Build = Callable[..., EngineWorker]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def build(tmp_path: Path, ledger: Ledger) -> Iterator[Build]:
    built: list[EngineWorker] = []

    def build(checkpoint: Checkpoint, **settings: float) -> EngineWorker:
        config = Config(
            node=NodeSettings(data_dir=tmp_path, engines_dir=ENGINES, log_level="error"),
            infer=InferSettings(**settings),  # type: ignore[arg-type]
        )
        worker = EngineWorker(config, ledger, HandClock(1000.0), checkpoint)
        worker.start()
        built.append(worker)
        return worker

    yield build
    for worker in built:
        worker.stop(0.5)


def handle(worker: EngineWorker, *job_ids: str) -> None:
    """Have a worker do jobs, as soon as there is a child to do them."""
    wait_until(lambda: worker.handle(*job_ids), 60.0, "a child that takes the jobs")


def test_three_crashes_park_the_job_with_its_reason(build: Build, ledger: Ledger) -> None:
    rows.routed(ledger, a_job())
    worker = build(crashing.exit_when_started, crashes_max=3, retry_first_s=10)
    ended = "the worker process ended: exit code 42 while it ran"
    for crashes, wait_s in ((1, 10), (2, 20)):
        handle(worker, "job-1")
        job = job_of(ledger)
        assert (job.state, job.crashes, job.failures) == (JobState.QUEUED, crashes, 0)
        assert (job.reason, job.not_before) == (ended, 1000.0 + wait_s)
    handle(worker, "job-1")
    assert job_of(ledger).state is JobState.PARKED
    assert job_of(ledger).reason == f"{ended}; 3 times"
    assert [event for event, _, _ in moves_of(ledger, "job-1")] == [
        "CREATED",
        *["STARTED", "CRASHED"] * 2,
        "STARTED",
        "GIVEN_UP",
    ]


def test_what_crashes_in_company_is_not_parked_but_tells_that_it_is_to_be_done_alone(
    build: Build, ledger: Ledger
) -> None:
    rows.routed(ledger, a_job("job-1"), a_job("job-2"))
    worker = build(crashing.exit_when_started, crashes_max=1, retry_first_s=10)
    handle(worker, "job-1", "job-2")
    for name in ("job-1", "job-2"):
        job = job_of(ledger, name)
        assert (job.state, job.crashes, job.not_before) == (JobState.QUEUED, 1, 1010.0)
        assert job.reason.endswith("exit code 42 while it ran together with others")
    handle(worker, "job-1")
    assert job_of(ledger, "job-1").state is JobState.PARKED
    assert job_of(ledger, "job-2").state is JobState.QUEUED


def test_a_job_that_takes_too_long_is_ended_as_a_crash(build: Build, ledger: Ledger) -> None:
    rows.routed(ledger, a_job())
    worker = build(crashing.hang_when_started, job_timeout_s=3)
    while worker.pid is None or job_of(ledger).attempt == 0:
        # a process that still loads its libraries when the time is over has not taken the job
        handle(worker, "job-1")
    assert job_of(ledger).state is JobState.QUEUED
    assert job_of(ledger).crashes == 1
    assert "took longer than infer.job_timeout_s (3 s)" in job_of(ledger).reason


def test_a_job_that_is_superseded_while_it_runs_is_ended_without_a_crash(
    build: Build, ledger: Ledger
) -> None:
    rows.routed(ledger, a_job())
    worker = build(crashing.hang_when_started)
    running = threading.Thread(target=handle, args=(worker, "job-1"))
    running.start()
    wait_until(lambda: job_of(ledger).state is JobState.RUNNING, 60.0, "the job's start")
    ledger.studies.instance_stored(rows.an_instance(2, received_at=350.0))
    running.join(60.0)
    assert not running.is_alive()
    assert (job_of(ledger).state, job_of(ledger).crashes) == (JobState.SUPERSEDED, 0)


def test_a_job_that_nobody_knows_is_handed_back_at_once(build: Build, ledger: Ledger) -> None:
    worker = build(pass_checkpoint)
    pid = None
    for _ in range(2):
        handle(worker, "unknown")
        assert pid in (None, worker.pid)  # it lives on
        pid = worker.pid
