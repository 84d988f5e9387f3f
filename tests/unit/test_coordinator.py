"""The coordinator's turn: open work is handed out, lost work put back, no stage in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.coordinator import GONE_LANE, Coordinator
from dicom_node.errors import StorageError
from dicom_node.executor.local import Lane, LocalExecutor
from dicom_node.executor.port import Executor, Task
from dicom_node.ledger.fetches import PlannedFetch
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.routing import Plan
from dicom_node.lifecycle import DeliveryState, FetchState, JobState
from dicom_node.model import JobRole, Priority
from dicom_node.priors import PriorsWanted
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_job, a_result, delivery_of, finished, job_of

ATTEMPTS_MAX = 10


class Stage:
    """A stage whose turn is a function."""

    def __init__(self, turn: Callable[[], float | None] = lambda: None) -> None:
        self.turn = turn


class RecordingExecutor:
    """An executor that takes everything and does nothing."""

    def __init__(self) -> None:
        self.submitted: list[Task] = []
        self.in_hand: set[tuple[str, str]] = set()

    def submit(self, task: Task) -> bool:
        self.submitted.append(task)
        return True

    def cancel(self, task: Task) -> bool:
        return False

    def running(self) -> frozenset[tuple[str, str]]:
        return frozenset(self.in_hand)

    def run(self) -> None: ...

    def stop(self, grace_s: float) -> bool:
        return True


@pytest.fixture(autouse=True)
def no_tracebacks_drawn() -> Iterator[None]:
    """structlog draws those of the expected errors, which takes seconds."""
    with capture_logs():
        yield


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def executor() -> RecordingExecutor:
    return RecordingExecutor()


@pytest.fixture
def clock() -> HandClock:
    return HandClock(1000.0)


Build = Callable[..., Coordinator]


@pytest.fixture
def build(ledger: Ledger, executor: RecordingExecutor, clock: HandClock) -> Build:
    def build(
        assemble: Callable[[], float | None] = lambda: None,
        route: Callable[[], None] = lambda: None,
        executor: Executor = executor,
        **others: Any,
    ) -> Coordinator:
        return Coordinator(
            ledger,
            Stage(assemble),  # type: ignore[arg-type]
            Stage(route),  # type: ignore[arg-type]
            executor,
            ("pacs", "archive", "research"),
            clock,
            **others,
        )

    return build


# ---------------------------------------------------------------- handing out


def test_open_jobs_and_deliveries_are_submitted(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    study = rows.complete(ledger, rows.an_instance())
    jobs = [
        a_job("done", priority=Priority.HIGH, destinations=("archive", "research")),
        a_job("routine"),
        a_job("stat", priority=Priority.STAT),
        a_job("later", not_before=1000.1),
        a_job("running"),
    ]
    rows.route(ledger, study, jobs, "rules", 300.0)
    ledger.jobs.finish(rows.started(ledger, "done"), [a_result(job_id="done")], "", {}, 400.0)
    rows.started(ledger, "running")
    executor.in_hand = {("infer", "running")}
    build().turn()
    assert [task for task in executor.submitted if task.lane == "infer"] == [
        Task("infer", "stat", Priority.STAT),
        Task("infer", "routine", Priority.ROUTINE),
    ]
    assert {task for task in executor.submitted if task.lane != "infer"} == {
        Task("deliver/archive", "archive", Priority.HIGH),
        Task("deliver/research", "research", Priority.HIGH),
    }


def test_what_was_sent_is_proven_on_a_lane_of_its_own(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    """So a slow archive that is asked holds up nothing that is to be sent to it."""
    finished(ledger, job=a_job(destinations=("gone", "pacs")))
    for destination in ("gone", "pacs"):
        for parcel in rows.sending(ledger, destination=destination):
            ledger.deliveries.accepted(parcel.delivery, "stored", 420.0)
    build().turn()
    assert executor.submitted == [
        Task("prove", "gone", Priority.ROUTINE),
        Task("prove/pacs", "pacs", Priority.ROUTINE),
    ]


def test_what_is_open_is_submitted_at_every_turn(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    """So an executor that forgot everything loses nothing."""
    rows.routed(ledger, a_job())
    coordinator = build()
    for _ in range(3):
        coordinator.turn()
    assert executor.submitted == [Task("infer", "job-1")] * 3


def test_a_destination_that_is_no_longer_configured_holds_up_no_other(
    build: Build, ledger: Ledger
) -> None:
    """Its deliveries were made before the operator took it out of `peers:`."""
    finished(ledger, job=a_job(destinations=("gone", "pacs")))
    lane = Lane(lambda _: None, lambda *_: None)
    lanes = {"infer": lane, "deliver/pacs": lane, GONE_LANE: lane}
    executor = LocalExecutor(lanes)  # it is never run
    build(executor=executor).turn()
    assert ("deliver/pacs", "pacs") in executor.running()
    assert ledger.events.named("STAGE_FAILED") == []


def test_jobs_of_engines_that_look_at_images_may_be_done_together(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    """But for one that has crashed: it is done alone, so that nobody else pays for it."""
    jobs = [a_job("xray", engine_name="cxr"), a_job("crashed", engine_name="cxr"), a_job("ct")]
    rows.routed(ledger, *jobs)
    ledger.jobs.crash(rows.started(ledger, "crashed"), "it died", 400.0, 400.0)
    build(batched={"cxr"}).turn()
    assert {task.key: task.group for task in executor.submitted} == {
        "xray": "cxr",
        "crashed": "",
        "ct": "",
    }


def test_shadows_are_handed_out_when_there_is_nothing_else_to_infer(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    shadow = a_job("shadow", role=JobRole.SHADOW, priority=Priority.LOW, destinations=())
    rows.routed(ledger, a_job("current"), shadow)
    coordinator = build(batched={"ct_lungs"})
    coordinator.submit()
    assert [task.key for task in executor.submitted] == ["current"]
    executor.in_hand = {("infer", "current")}
    running = rows.started(ledger, "current")
    coordinator.submit()
    assert [task.key for task in executor.submitted] == ["current"]
    ledger.jobs.finish(running, [a_result(job_id="current")], "", {}, 400.0)
    coordinator.submit()
    assert Task("shadow", "shadow", Priority.LOW, "ct_lungs") in executor.submitted


def test_a_shadow_under_way_is_left_alone_while_somebody_has_it_in_hand(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    rows.routed(ledger, *(a_job(name, role=JobRole.SHADOW) for name in ("held", "lost")))
    for name in ("held", "lost"):
        rows.started(ledger, name)
    executor.in_hand = {("shadow", "held")}
    build().sweep()
    assert job_of(ledger, "held").state is JobState.RUNNING
    assert job_of(ledger, "lost").state is JobState.QUEUED


def test_who_is_to_be_asked_what_he_accepts_is_asked_before_anything_is_encoded(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    rows.routed(ledger, a_job())
    build(probes=lambda: ["pacs"]).submit()
    assert [one.lane for one in executor.submitted] == ["probe/pacs", "infer"]
    assert executor.submitted[0].key == "pacs"


def test_comparisons_are_handed_out_whatever_else_is_open(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    rows.routed(ledger, a_job())
    build(comparisons=lambda: ["compare-7"]).submit()
    assert Task("shadow", "compare-7") in executor.submitted


# ---------------------------------------------------------------- putting back


def test_a_running_job_that_nobody_holds_is_put_back(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    rows.routed(ledger, a_job("lost"), a_job("held"))
    rows.started(ledger, "lost")
    rows.started(ledger, "held")
    executor.in_hand = {("infer", "held")}
    build().turn()
    assert job_of(ledger, "lost").state is JobState.QUEUED
    assert job_of(ledger, "lost").reason == "the node stopped while it ran"
    assert job_of(ledger, "held").state is JobState.RUNNING
    assert executor.submitted == [Task("infer", "lost")]  # in the same turn


def test_a_delivery_under_way_that_nobody_holds_is_put_back(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    finished(ledger, job=a_job(destinations=("archive", "research")))
    [to_archive] = rows.sending(ledger, destination="archive")
    [to_research] = rows.sending(ledger, destination="research")
    executor.in_hand = {("deliver/archive", "archive")}
    build().turn()
    held = delivery_of(ledger, to_archive.delivery.delivery_id)
    lost = delivery_of(ledger, to_research.delivery.delivery_id)
    assert held.state is DeliveryState.SENDING
    assert (lost.state, lost.not_before) == (DeliveryState.PENDING, 1000.0)
    assert lost.reason == "the node stopped while it was sent"


def test_what_ends_while_we_sweep_is_left_alone(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    rows.routed(ledger, a_job())
    job = rows.started(ledger)

    class EndsNow(RecordingExecutor):
        def running(self) -> frozenset[tuple[str, str]]:
            ledger.jobs.finish(job, [a_result()], "found", {}, 999.0)
            return frozenset()

    build(executor=EndsNow()).sweep()
    assert job_of(ledger).state is JobState.DONE


def test_a_job_that_was_only_interrupted_is_not_blamed_for_its_failures(
    build: Build, ledger: Ledger
) -> None:
    """Nine failures and a restart of the node are nine failures."""
    rows.routed(ledger, a_job())
    for _ in range(ATTEMPTS_MAX - 1):
        ledger.jobs.fail(rows.started(ledger), "out of memory", 320.0, 310.0)
    rows.started(ledger)
    build().sweep()
    assert job_of(ledger).state is JobState.QUEUED
    assert "interrupted 10 times" not in job_of(ledger).reason


def test_it_sweeps_every_two_seconds_and_submits_at_every_turn(
    build: Build, ledger: Ledger, clock: HandClock
) -> None:
    rows.routed(ledger, a_job())
    coordinator = build()
    coordinator.turn()
    rows.started(ledger)
    clock.now = 1001.9
    coordinator.turn()
    assert job_of(ledger).state is JobState.RUNNING
    clock.now = 1002.0
    coordinator.turn()
    assert job_of(ledger).state is JobState.QUEUED


def test_priors_are_fetched_in_a_lane_of_their_archive_and_the_job_waits(
    build: Build, ledger: Ledger, executor: RecordingExecutor, clock: HandClock
) -> None:
    study = rows.complete(ledger, rows.an_instance())
    jobs = (a_job("job-1", priority=Priority.STAT), a_job("job-2"))
    fetches = (
        PlannedFetch("job-1", PriorsWanted("archive", wait_s=10.0)),
        PlannedFetch("job-2", PriorsWanted("gone", wait_s=10.0)),
    )
    rule_set = ledger.routing.keep_rule_set("rules", 1000.0)
    plan = Plan("rules", rule_set, "", {}, jobs=jobs, fetches=fetches)
    assert ledger.routing.record(study, plan, 1000.0)
    coordinator = build()
    coordinator.submit()
    assert executor.submitted == [
        Task("prior/archive", "archive", Priority.STAT),
        Task("prior", "gone", Priority.ROUTINE),
    ]
    clock.now = 1010.0
    coordinator.submit()
    assert executor.submitted[2:] == [
        Task("infer", "job-1", Priority.STAT),
        Task("infer", "job-2", Priority.ROUTINE),
    ]
    assert len(ledger.events.named("WITHOUT_PRIORS")) == 2


def test_a_fetch_under_way_that_nobody_holds_is_put_back(
    build: Build, ledger: Ledger, executor: RecordingExecutor
) -> None:
    study = rows.complete(ledger, rows.an_instance())
    jobs = (a_job("held"), a_job("lost"))
    fetches = (
        PlannedFetch("held", PriorsWanted("archive")),
        PlannedFetch("lost", PriorsWanted("research")),
    )
    rule_set = ledger.routing.keep_rule_set("rules", 1000.0)
    plan = Plan("rules", rule_set, "", {}, jobs=jobs, fetches=fetches)
    assert ledger.routing.record(study, plan, 1000.0)
    for source in ("archive", "research"):
        ready = ledger.fetches.ready(source, 1000.0)
        assert ready is not None
        assert ledger.fetches.start(ready, 1000.0)
    executor.in_hand = {("prior/archive", "archive")}
    build().sweep()
    [held] = ledger.fetches.in_states(FetchState.FETCHING)
    [lost] = ledger.fetches.in_states(FetchState.PENDING)
    assert (held.job_id, lost.job_id) == ("held", "lost")
    assert lost.reason == "the node stopped while they were fetched"


# ---------------------------------------------------------------- one stage fails


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (StorageError("the store is gone", hint="find it"), "the store is gone"),
        (ValueError("Doe^Jane"), "ValueError"),
    ],
)
@pytest.mark.parametrize("stage", ["assemble", "route"])
def test_a_stage_that_raises_leaves_an_event_and_the_others_go_on(
    stage: str,
    error: Exception,
    reason: str,
    build: Build,
    ledger: Ledger,
    executor: RecordingExecutor,
) -> None:
    rows.routed(ledger, a_job())
    taken: list[str] = []

    def works() -> None:
        taken.append("a turn")

    def breaks() -> None:
        raise error

    turns = {"assemble": works, "route": works} | {stage: breaks}
    assert build(**turns).turn() == 1.0
    assert taken == ["a turn"]
    assert executor.submitted == [Task("infer", "job-1")]
    [event] = ledger.events.named("STAGE_FAILED")
    assert (event.subject_kind, event.subject, event.reason) == ("node", stage, reason)


def test_a_stage_that_keeps_failing_does_not_fill_the_ledger(
    build: Build, ledger: Ledger, clock: HandClock
) -> None:
    """A turn a second is 86,400 rows a day that say the same."""

    def breaks() -> None:
        raise StorageError("the store is gone")

    coordinator = build(route=breaks)
    for _ in range(30):
        coordinator.turn()
        clock.now += 1.0
    assert len(ledger.events.named("STAGE_FAILED")) < 10


def test_a_ledger_that_is_gone_does_not_end_the_turns(build: Build, tmp_path: Path) -> None:
    coordinator = build()
    (tmp_path / "ledger.sqlite").write_bytes(b"this is no database" * 1000)
    assert coordinator.turn() == 1.0


# ---------------------------------------------------------------- when to look again


@pytest.mark.parametrize(
    ("at", "wait_s"), [(None, 1.0), (1000.4, 0.4), (1003.0, 1.0), (1000.0, 0.0), (990.0, 0.0)]
)
def test_the_next_turn_comes_when_the_assembler_wants_it_and_within_a_second(
    at: float | None, wait_s: float, build: Build
) -> None:
    assert build(assemble=lambda: at).turn() == pytest.approx(wait_s)


def test_a_hint_brings_the_next_turn_at_once_and_stop_ends_them(build: Build) -> None:
    turns = threading.Semaphore(0)

    def assemble() -> None:
        turns.release()

    coordinator = build(assemble=assemble)
    coordinator.start()
    assert turns.acquire(timeout=10)
    for _ in range(3):
        coordinator.hint()
        assert turns.acquire(timeout=10)
    coordinator.stop()
