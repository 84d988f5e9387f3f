"""A process of ours is kept alive, is stopped when it should, and never outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

from dicom_node.executor.child import Child, ChildEvents
from tests.unit.executor import children

ROOT = Path(__file__).parents[3]
PATIENCE_S = 30.0


class Kept:
    """A child under supervision, with what it said and how it ended."""

    def __init__(self, target: Callable[..., None], *args: Any, frozen_after_s: float) -> None:
        self.messages: Queue[tuple[Any, ...]] = Queue()
        self.endings: Queue[str] = Queue()
        events = ChildEvents(self.messages.put, self.endings.put)
        self.child = Child("kept", target, args, events, frozen_after_s)

    def start(self) -> int:
        """Start; return the process ID that the child told."""
        self.child.start()
        return int(self.hear("pid"))

    def hear(self, name: str) -> Any:
        message = self.messages.get(timeout=PATIENCE_S)
        assert message[0] == name
        return message[1]

    def end(self) -> str:
        """Return how it ended next."""
        return self.endings.get(timeout=PATIENCE_S)


Keep = Callable[..., Kept]


@pytest.fixture
def keep() -> Iterator[Keep]:
    kept: list[Kept] = []

    def keep(
        target: Callable[..., None] = children.echo, *args: Any, frozen_after_s: float = 60.0
    ) -> Kept:
        kept.append(Kept(target, *args, frozen_after_s=frozen_after_s))
        return kept[-1]

    yield keep
    for one in kept:
        if one.child.pid is not None:
            one.child.stop(0.5)


def is_gone(pid: int) -> bool:
    """Return whether no process has this ID, or only one that ended and was not waited for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("ascii")
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def wait_until_gone(pid: int) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    while not is_gone(pid):
        assert time.monotonic() < give_up_at, f"process {pid} is still there"
        time.sleep(0.01)


def test_messages_go_both_ways(keep: Keep) -> None:
    kept = keep()
    assert kept.start() == kept.child.pid
    assert kept.child.send("job", "1", {"two": 3})
    assert kept.messages.get(timeout=PATIENCE_S) == ("echo", "job", "1", {"two": 3})


def test_the_target_gets_its_arguments(keep: Keep) -> None:
    kept = keep(children.argument, "a value")
    kept.child.start()
    assert kept.hear("argument") == "a value"


def test_before_it_is_started_nobody_hears(keep: Keep) -> None:
    kept = keep()
    assert kept.child.pid is None
    assert not kept.child.send("job", "1")


def test_a_child_that_was_killed_is_started_again(keep: Keep) -> None:
    kept = keep()
    first = kept.start()
    os.kill(first, signal.SIGKILL)
    assert kept.end() == "killed by SIGKILL"
    second = kept.hear("pid")
    assert second != first
    assert kept.child.pid == second
    assert kept.child.send("job", "1")
    assert kept.hear("echo") == "job"


@pytest.mark.parametrize(
    ("message", "ending"), [(("exit", 0), "exit code 0"), (("exit", 7), "exit code 7")]
)
def test_how_it_ended_is_told_in_words(message: tuple[Any, ...], ending: str, keep: Keep) -> None:
    kept = keep()
    kept.start()
    kept.child.send(*message)
    assert kept.end() == ending


def test_a_child_that_raises_is_started_again(keep: Keep) -> None:
    kept = keep()
    kept.start()
    kept.child.send("raise", "out of memory")
    assert kept.end() == "exit code 1"
    kept.hear("pid")


def test_a_child_that_is_killed_for_a_reason_tells_the_reason(keep: Keep) -> None:
    kept = keep(children.deaf)
    first = kept.start()
    kept.child.kill("the job took too long")
    assert kept.end() == "the job took too long"
    assert kept.hear("pid") != first


def test_the_reason_of_one_end_is_not_told_for_the_next(keep: Keep) -> None:
    kept = keep()
    kept.start()
    kept.child.kill("the job took too long")
    kept.end()
    os.kill(kept.hear("pid"), signal.SIGKILL)
    assert kept.end() == "killed by SIGKILL"


def test_a_frozen_child_is_killed(keep: Keep) -> None:
    kept = keep(frozen_after_s=2.0)
    pid = kept.start()
    os.kill(pid, signal.SIGSTOP)
    assert kept.end() == "frozen: no heartbeat for 2 s"
    wait_until_gone(pid)


def test_a_busy_child_that_says_nothing_is_not_taken_for_a_frozen_one(keep: Keep) -> None:
    kept = keep(children.busy, 4.0, frozen_after_s=3.0)
    pid = kept.start()
    assert kept.hear("done") == pid
    assert kept.endings.empty()


def test_a_child_stops_on_request_and_is_not_started_again(keep: Keep) -> None:
    kept = keep()
    pid = kept.start()
    kept.child.stop(PATIENCE_S)
    assert is_gone(pid)
    assert kept.endings.empty()
    assert kept.messages.empty()
    assert not kept.child.send("job", "1")


def test_a_child_that_does_not_stop_in_time_is_killed(keep: Keep) -> None:
    kept = keep(children.deaf)
    pid = kept.start()
    kept.child.stop(0.05)
    wait_until_gone(pid)
    assert kept.endings.empty()


def test_a_child_that_waits_to_be_started_again_can_be_stopped(keep: Keep) -> None:
    kept = keep()
    os.kill(kept.start(), signal.SIGKILL)
    kept.end()  # now it pauses before the next start
    began = time.monotonic()
    kept.child.stop(PATIENCE_S)
    assert time.monotonic() - began < PATIENCE_S / 2


def test_ctrl_c_reaches_the_group_but_does_not_end_the_child(keep: Keep) -> None:
    kept = keep()
    pid = kept.start()
    os.kill(pid, signal.SIGINT)
    assert kept.child.send("still", "there")
    assert kept.hear("echo") == "still"


def test_a_child_ends_when_its_parent_is_gone() -> None:
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.unit.executor.children"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert parent.stdout is not None
    assert parent.stdin is not None
    with parent.stdout, parent.stdin:
        grandchild = int(parent.stdout.readline())
        assert not is_gone(grandchild)
        parent.kill()
        parent.wait(PATIENCE_S)
        wait_until_gone(grandchild)


def test_a_child_comes_back_even_where_its_end_could_not_be_noted() -> None:
    """The ledger may be gone at the very moment; nobody else would start it again."""
    pids: Queue[int] = Queue()

    def hear(message: tuple[Any, ...]) -> None:
        if message[0] == "pid":
            pids.put(message[1])

    def cannot_note(_ending: str) -> None:
        raise ValueError("the ledger is gone")

    child = Child("kept", children.echo, (), ChildEvents(hear, cannot_note))
    child.start()
    first = pids.get(timeout=30)
    os.kill(first, signal.SIGKILL)
    assert pids.get(timeout=30) != first
    child.stop(5)
