"""The executor's contract: what every adapter of the port promises.

An adapter joins by a line in `ADAPTERS`: a function that makes an executor of lanes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from queue import Queue

import pytest

from dicom_node.errors import InvariantBroken
from dicom_node.executor.local import Lane, LocalExecutor, Together
from dicom_node.executor.port import Executor, Task
from dicom_node.model import Priority

ADAPTERS: Mapping[str, Callable[[Mapping[str, Lane]], Executor]] = {"local": LocalExecutor}
PATIENCE_S = 5.0


class Work:
    """A lane whose tasks are done one by one, each when the test says so."""

    def __init__(self, threads: int = 1) -> None:
        self.begun: Queue[Task] = Queue()
        self.errors: Queue[tuple[Task, Exception]] = Queue()
        self._go_on = threading.Semaphore(0)
        self._raised: Exception | None = None
        self.lane = Lane(self._handle, self._on_error, threads)

    def wait_for_next(self) -> str:
        """Return the key of the next task that was begun."""
        return self.begun.get(timeout=PATIENCE_S).key

    def finish_one(self, error: Exception | None = None) -> None:
        self._raised = error
        self._go_on.release()

    def finish_all(self) -> None:
        self._go_on.release(1000)

    def _handle(self, task: Task) -> None:
        self.begun.put(task)
        assert self._go_on.acquire(timeout=PATIENCE_S)
        if self._raised is not None:
            raise self._raised

    def _on_error(self, task: Task, error: Exception) -> None:
        self._raised = None
        self.errors.put((task, error))


class GroupedWork(Work):
    """A lane that does tasks of one group together, three at most."""

    def __init__(self, wait_s: float = 0.0, threads: int = 1) -> None:
        super().__init__()
        self.groups: Queue[list[str]] = Queue()
        together = Together(self._handle_together, tasks_max=3, wait_s=wait_s)
        self.lane = Lane(self._handle, self._on_error, threads, together)

    def wait_for_group(self) -> list[str]:
        return self.groups.get(timeout=PATIENCE_S)

    def _handle(self, task: Task) -> None:
        self._handle_together([task])

    def _handle_together(self, tasks: Sequence[Task]) -> None:
        self.groups.put([task.key for task in tasks])
        super()._handle(tasks[0])


Build = Callable[..., Executor]


@pytest.fixture(params=ADAPTERS)
def build(request: pytest.FixtureRequest) -> Iterator[Build]:
    """Return a function that makes an executor of the lanes that it is given by name."""
    made: list[tuple[Executor, Mapping[str, Work]]] = []

    def build(**works: Work) -> Executor:
        executor = ADAPTERS[request.param]({name: work.lane for name, work in works.items()})
        made.append((executor, works))
        return executor

    yield build
    for executor, works in made:
        for work in works.values():
            work.finish_all()
        with suppress(RuntimeError):
            executor.stop(PATIENCE_S)


def until(holds: Callable[[], bool]) -> None:
    """Wait until something holds that no event tells."""
    give_up_at = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.002)


def test_a_task_that_was_submitted_is_done(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    task = Task("infer", "job-1", Priority.HIGH)
    assert executor.submit(task)
    assert work.begun.get(timeout=PATIENCE_S) == task
    work.finish_one()
    until(lambda: executor.running() == frozenset())


def test_nothing_is_done_before_it_runs(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.submit(Task("infer", "job-1"))
    assert executor.running() == {("infer", "job-1")}
    assert work.begun.empty()
    executor.run()
    assert work.wait_for_next() == "job-1"


def test_urgent_first_then_in_the_order_of_submission(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    for key, priority in (
        ("low", Priority.LOW),
        ("first", Priority.ROUTINE),
        ("second", Priority.ROUTINE),
        ("stat", Priority.STAT),
        ("high", Priority.HIGH),
        ("third", Priority.ROUTINE),
    ):
        executor.submit(Task("infer", key, priority))
    work.finish_all()
    executor.run()
    done = [work.wait_for_next() for _ in range(6)]
    assert done == ["stat", "high", "first", "second", "third", "low"]


def test_a_task_in_hand_is_not_taken_twice(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    assert executor.submit(Task("infer", "job-1"))
    assert not executor.submit(Task("infer", "job-1"))  # queued
    executor.run()
    assert work.wait_for_next() == "job-1"
    assert not executor.submit(Task("infer", "job-1"))  # running
    assert not executor.submit(Task("infer", "job-1", Priority.STAT))
    work.finish_all()
    until(lambda: executor.running() == frozenset())
    assert work.begun.empty()


def test_a_task_that_came_to_its_end_can_be_submitted_again(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    for _ in range(3):
        assert executor.submit(Task("infer", "job-1"))
        assert work.wait_for_next() == "job-1"
        work.finish_one()
        until(lambda: executor.running() == frozenset())


def test_a_queued_task_moves_forward_when_it_becomes_more_urgent(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    for key in ("one", "two", "three"):
        executor.submit(Task("infer", key, Priority.ROUTINE))
    assert not executor.submit(Task("infer", "three", Priority.STAT))
    work.finish_all()
    executor.run()
    assert [work.wait_for_next() for _ in range(3)] == ["three", "one", "two"]
    until(lambda: executor.running() == frozenset())
    assert work.begun.empty()  # and it is done once


def test_a_queued_task_does_not_move_back(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.submit(Task("infer", "stat", Priority.STAT))
    executor.submit(Task("infer", "high", Priority.HIGH))
    assert not executor.submit(Task("infer", "stat", Priority.LOW))
    work.finish_all()
    executor.run()
    assert [work.wait_for_next() for _ in range(2)] == ["stat", "high"]


def test_a_task_that_has_not_begun_can_be_cancelled(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.submit(Task("infer", "one"))
    executor.submit(Task("infer", "two"))
    assert executor.cancel(Task("infer", "one"))
    assert not executor.cancel(Task("infer", "one"))
    assert not executor.cancel(Task("infer", "unknown"))
    assert executor.running() == {("infer", "two")}
    executor.run()
    assert work.wait_for_next() == "two"
    assert not executor.cancel(Task("infer", "two"))
    work.finish_all()
    until(lambda: executor.running() == frozenset())
    assert work.begun.empty()


def test_what_was_cancelled_can_be_submitted_again_and_is_done_once(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.submit(Task("infer", "one"))
    executor.cancel(Task("infer", "one"))
    assert executor.submit(Task("infer", "one"))
    work.finish_all()
    executor.run()
    assert work.wait_for_next() == "one"
    until(lambda: executor.running() == frozenset())
    assert work.begun.empty()


def test_running_names_what_is_queued_and_what_runs(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    executor.submit(Task("infer", "one"))
    assert work.wait_for_next() == "one"
    executor.submit(Task("infer", "two"))
    assert executor.running() == {("infer", "one"), ("infer", "two")}


def test_an_exception_is_told_and_the_lane_goes_on(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    executor.submit(Task("infer", "one"))
    executor.submit(Task("infer", "two"))
    assert work.wait_for_next() == "one"
    work.finish_one(ValueError("broken"))
    task, error = work.errors.get(timeout=PATIENCE_S)
    assert (task.key, str(error)) == ("one", "broken")
    assert work.wait_for_next() == "two"
    work.finish_one()
    until(lambda: executor.running() == frozenset())


def test_telling_of_an_exception_may_fail_as_well_and_the_lane_goes_on(build: Build) -> None:
    """The ledger, whose failure is told, is where the telling goes."""
    done: Queue[str] = Queue()

    def handle(task: Task) -> None:
        if task.key == "one":
            raise ValueError("the ledger is gone")
        done.put(task.key)

    def on_error(_task: Task, _error: Exception) -> None:
        raise ValueError("the ledger is still gone")

    work = Work()
    work.lane = Lane(handle, on_error)
    executor = build(infer=work)
    executor.run()
    executor.submit(Task("infer", "one"))
    executor.submit(Task("infer", "two"))
    assert done.get(timeout=PATIENCE_S) == "two"


def test_one_lane_does_not_hold_up_another(build: Build) -> None:
    dead, alive = Work(), Work()
    executor = build(dead=dead, alive=alive)
    executor.run()
    executor.submit(Task("dead", "one"))
    assert dead.wait_for_next() == "one"  # and it never ends
    executor.submit(Task("dead", "two"))
    for key in ("one", "two", "three"):  # the same names, in a lane of their own
        executor.submit(Task("alive", key))
        assert alive.wait_for_next() == key
        alive.finish_one()
    assert dead.begun.empty()


def test_a_lane_has_as_many_hands_as_it_was_given(build: Build) -> None:
    work = Work(threads=2)
    executor = build(infer=work)
    executor.run()
    for key in ("one", "two", "three"):
        executor.submit(Task("infer", key))
    assert {work.wait_for_next(), work.wait_for_next()} == {"one", "two"}
    assert work.begun.empty()
    work.finish_one()
    assert work.wait_for_next() == "three"


def test_a_lane_that_is_not_there_is_our_mistake(build: Build) -> None:
    with pytest.raises(InvariantBroken, match="no lane"):
        build(infer=Work()).submit(Task("nowhere", "one"))


def test_stop_waits_for_what_runs_and_begins_nothing_new(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    executor.submit(Task("infer", "one"))
    executor.submit(Task("infer", "two"))
    assert work.wait_for_next() == "one"
    answers: Queue[bool] = Queue()
    stopping = threading.Thread(target=lambda: answers.put(executor.stop(PATIENCE_S)))
    stopping.start()
    stopping.join(0.05)
    assert stopping.is_alive()  # it waits
    work.finish_all()
    assert answers.get(timeout=PATIENCE_S)
    stopping.join(PATIENCE_S)
    assert work.begun.empty()


def test_stop_says_when_something_still_ran_at_the_end(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    executor.submit(Task("infer", "one"))
    work.wait_for_next()
    assert not executor.stop(0.01)


def test_an_idle_executor_stops_at_once(build: Build) -> None:
    executor = build(infer=Work(), deliver=Work(threads=2))
    executor.run()
    assert executor.stop(PATIENCE_S)


def test_many_threads_may_submit_at_once(build: Build) -> None:
    work = Work()
    executor = build(infer=work)
    executor.run()
    taken: Queue[bool] = Queue()

    def submit_all() -> None:
        for number in range(50):
            taken.put(executor.submit(Task("infer", f"job-{number}")))

    threads = [threading.Thread(target=submit_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
    assert sum(taken.get_nowait() for _ in range(200)) == 50
    work.finish_all()
    assert sorted(work.wait_for_next() for _ in range(50)) == sorted(
        f"job-{number}" for number in range(50)
    )


# ---------------------------------------------------------------- together


def test_tasks_of_one_group_and_priority_are_done_together_in_their_order(build: Build) -> None:
    work = GroupedWork()
    executor = build(infer=work)
    for key, group, priority in (
        ("a1", "a", Priority.ROUTINE),
        ("b1", "b", Priority.ROUTINE),
        ("a2", "a", Priority.ROUTINE),
        ("alone", "", Priority.ROUTINE),
        ("also", "", Priority.ROUTINE),
        ("a stat", "a", Priority.STAT),
        ("a3", "a", Priority.ROUTINE),
        ("a4", "a", Priority.ROUTINE),
    ):
        executor.submit(Task("infer", key, priority, group))
    work.finish_all()
    executor.run()
    done = [work.wait_for_group() for _ in range(6)]
    assert done == [["a stat"], ["a1", "a2", "a3"], ["b1"], ["alone"], ["also"], ["a4"]]
    until(lambda: executor.running() == frozenset())


def test_the_only_one_of_its_group_does_not_wait_for_others(build: Build) -> None:
    work = GroupedWork(wait_s=600.0)
    executor = build(infer=work)
    executor.run()
    executor.submit(Task("infer", "one", group="a"))
    assert work.wait_for_group() == ["one"]


def test_two_of_a_group_wait_for_a_third_and_go_when_they_are_enough(build: Build) -> None:
    work = GroupedWork(wait_s=600.0)
    executor = build(infer=work)
    for key in ("one", "two"):
        executor.submit(Task("infer", key, group="a"))
    executor.run()
    assert executor.running() == {("infer", "one"), ("infer", "two")}
    executor.submit(Task("infer", "other", group="b"))
    assert work.groups.empty()
    executor.submit(Task("infer", "three", group="a"))
    assert work.wait_for_group() == ["one", "two", "three"]


def test_hands_that_are_free_get_their_share_of_a_group_at_once(build: Build) -> None:
    work = GroupedWork(wait_s=600.0, threads=3)
    executor = build(infer=work)
    for number in range(5):
        executor.submit(Task("infer", str(number), group="a"))
    executor.run()
    groups = [work.wait_for_group() for _ in range(3)]
    assert sorted(map(len, groups)) == [1, 2, 2]
    assert sorted(key for group in groups for key in group) == list("01234")


def test_what_waits_for_others_goes_when_its_time_is_over(build: Build) -> None:
    work = GroupedWork(wait_s=0.01)
    executor = build(infer=work)
    for key in ("one", "two"):
        executor.submit(Task("infer", key, group="a"))
    executor.run()
    assert work.wait_for_group() == ["one", "two"]


def test_something_more_urgent_ends_the_wait_for_others(build: Build) -> None:
    work = GroupedWork(wait_s=600.0)
    executor = build(infer=work)
    for key in ("one", "two"):
        executor.submit(Task("infer", key, group="a"))
    work.finish_all()
    executor.run()
    executor.submit(Task("infer", "stat", Priority.STAT))
    assert sorted([work.wait_for_group(), work.wait_for_group()]) == [["one", "two"], ["stat"]]


def test_an_exception_on_a_group_is_told_for_each_of_its_tasks(build: Build) -> None:
    work = GroupedWork()
    executor = build(infer=work)
    for key in ("one", "two"):
        executor.submit(Task("infer", key, group="a"))
    executor.run()
    assert work.wait_for_group() == ["one", "two"]
    work.finish_one(ValueError("broken"))
    told = [work.errors.get(timeout=PATIENCE_S)[0].key for _ in range(2)]
    assert told == ["one", "two"]
    until(lambda: executor.running() == frozenset())
