"""The worker process for shadows: it gives way, and what it crashes with costs nobody else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.clock import Checkpoint, pass_checkpoint
from dicom_node.comparer import Comparer
from dicom_node.config.settings import Config, InferSettings, NodeSettings
from dicom_node.executor.port import Task
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import ComparisonState, JobState
from dicom_node.model import JobRole
from dicom_node.shadow_worker import ShadowWorker, compare_key
from dicom_node.store.local import LocalStore
from dicom_node.trials import TrialMode, TrialWanted
from tests.node_process import wait_until
from tests.unit import crashing
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_job, a_result, an_instance, job_of
from tests.unit.ledger.trials import route_trial

pytestmark = pytest.mark.slow  # each process loads its libraries: seconds

ENGINES = Path(__file__).parents[2] / "engines"
Build = Callable[..., ShadowWorker]


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """Return a ledger with a study whose current job and shadow both wait."""
    ledger = rows.new_ledger(tmp_path)
    shadow = a_job("shadow", role=JobRole.SHADOW, engine_name="new", destinations=())
    study = rows.complete(ledger, an_instance())
    route_trial(ledger, study, TrialWanted("new", TrialMode.SHADOW), a_job("current"), shadow)
    yield ledger
    ledger.close()


@pytest.fixture
def build(tmp_path: Path, ledger: Ledger) -> Iterator[Build]:
    built: list[ShadowWorker] = []

    def build(checkpoint: Checkpoint, device: str | int = "cpu") -> ShadowWorker:
        config = Config(
            node=NodeSettings(data_dir=tmp_path, engines_dir=ENGINES, log_level="error"),
            infer=InferSettings(devices=(device,)),  # type: ignore[arg-type]
        )
        clock = HandClock(1000.0)
        comparer = Comparer(ledger, LocalStore(tmp_path), clock)
        built.append(ShadowWorker(config, ledger, comparer, clock, checkpoint))
        return built[-1]

    yield build
    for worker in built:
        worker.stop(0.5)


def finish_current(ledger: Ledger) -> None:
    running = rows.started(ledger, "current")
    ledger.jobs.finish(running, [a_result(job_id="current")], "", {}, 400.0)


def take(worker: ShadowWorker, key: str = "shadow") -> threading.Thread:
    taking = threading.Thread(target=worker.take, args=([Task("shadow", key)],))
    taking.start()
    return taking


def test_a_shadow_is_not_begun_while_other_work_waits(build: Build, ledger: Ledger) -> None:
    worker = build(pass_checkpoint)
    worker.take([Task("shadow", "shadow")])
    assert job_of(ledger, "shadow").state is JobState.QUEUED
    assert job_of(ledger, "shadow").attempt == 0


def test_a_shadow_that_crashes_is_parked_at_once(build: Build, ledger: Ledger) -> None:
    finish_current(ledger)
    worker = build(crashing.exit_when_started)
    worker.take([Task("shadow", "shadow")])
    parked = job_of(ledger, "shadow")
    assert parked.state is JobState.PARKED
    assert "exit code 42 while it ran; 1 times" in parked.reason


def test_a_shadow_on_a_gpu_ends_when_other_work_comes(build: Build, ledger: Ledger) -> None:
    finish_current(ledger)
    taking = take(build(crashing.hang_when_started, device=0))
    wait_until(lambda: job_of(ledger, "shadow").state is JobState.RUNNING, 60.0, "the start")
    other = rows.complete(ledger, an_instance(9, study_instance_uid="1.2.3.9"))
    rows.route(ledger, other, [a_job("other", study_instance_uid="1.2.3.9")], "rules", 500.0)
    taking.join(60.0)
    assert not taking.is_alive()
    shadow = job_of(ledger, "shadow")
    assert (shadow.state, shadow.crashes) == (JobState.QUEUED, 0)
    assert shadow.reason == "it gave way to other work"


def test_a_comparison_is_made_while_other_work_waits(build: Build, ledger: Ledger) -> None:
    [comparison] = ledger.trials.of_study(rows.STUDY)
    worker = build(pass_checkpoint)
    worker.take([Task("shadow", compare_key(comparison.comparison_id))])
    [compared] = ledger.trials.of_study(rows.STUDY)
    assert compared.state is ComparisonState.COMPARED
    assert compared.reason == "nothing to compare"
