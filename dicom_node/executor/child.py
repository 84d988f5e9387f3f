"""A process of ours, kept alive: started again when it dies, killed when it freezes.

The child gets one end of a pipe. It sends ("beat",) every second from a thread of its own, so a
stopped process falls silent while a busy one does not, and whatever else it has to say as
("name", value). When the pipe breaks, the other side is gone and the child ends itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from typing import Any

import structlog

log = structlog.get_logger()

BEAT_EVERY_S = 1.0
_SPAWN = multiprocessing.get_context("spawn")  # never fork a process that has threads
_RESTART_FIRST_S = 0.5
_RESTART_LONGEST_S = 30.0
_STEADY_AFTER_S = 60.0

Message = tuple[Any, ...]


@dataclass(frozen=True)
class ChildEvents:
    """Whom a child's supervisor tells; called on the supervising thread."""

    on_message: Callable[[Message], None]
    on_exit: Callable[[str], None]
    """Told in words how the process ended; it is started again afterwards."""


class ChildLink:
    """The child's end: heartbeats out, messages both ways, and the end with the parent."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._sending = threading.Lock()
        threading.Thread(target=self._beat, name="heartbeat", daemon=True).start()

    def send(self, *message: Any) -> None:
        try:
            with self._sending:
                self._pipe.send(message)
        except (BrokenPipeError, OSError):
            _end_at_once()

    def receive(self) -> Message:
        """Wait for the parent's next message; the process ends if the parent is gone."""
        try:
            message: Message = self._pipe.recv()
        except (EOFError, OSError):
            _end_at_once()
        return message

    def _beat(self) -> None:
        while True:
            self.send("beat")
            time.sleep(BEAT_EVERY_S)


def _end_at_once(exitcode: int = 0) -> None:
    """End without taking the interpreter apart, which costs a quarter of a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(exitcode)


class Child:
    """The parent's end.

    Parameters
    ----------
    name : str
        For logs and thread names.
    target : callable
        A module-level function; called in the new process with a `ChildLink` and `args`.
    args : tuple
        Must be picklable.
    events : ChildEvents
    frozen_after_s : float
        A child that sends nothing for so long is killed.
    """

    def __init__(
        self,
        name: str,
        target: Callable[..., None],
        args: tuple[Any, ...],
        events: ChildEvents,
        frozen_after_s: float = 20.0,
    ) -> None:
        self.name = name
        self._target = target
        self._args = args
        self._events = events
        self._frozen_after_s = frozen_after_s
        self._stopping = threading.Event()
        self._sending = threading.Lock()
        self._process: SpawnProcess | None = None
        self._pipe: Any = None
        self._why_killed = ""
        self._thread = threading.Thread(target=self._supervise, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def is_there(self) -> bool:
        """Whether there is a process to hear what is sent."""
        return self._pipe is not None

    def send(self, *message: Any) -> bool:
        """Send to the child; False if it is not there to hear it."""
        with self._sending:
            try:
                if self._pipe is None:
                    return False
                self._pipe.send(message)
            except (BrokenPipeError, OSError):
                return False
            return True

    def kill(self, why: str) -> None:
        """Kill the process; it is started again."""
        process = self._process
        if process is not None and process.is_alive():
            self._why_killed = why
            process.kill()

    def stop(self, grace_s: float) -> None:
        """Ask the process to end, then make it."""
        self._stopping.set()
        self.send("stop")
        if self._thread.is_alive():
            self._thread.join(grace_s)
        process = self._process
        if process is not None and process.is_alive():
            process.kill()
        if self._thread.is_alive():
            self._thread.join(5.0)

    def _supervise(self) -> None:
        pause_s = _RESTART_FIRST_S
        while not self._stopping.is_set():
            started = time.monotonic()
            try:
                ending = self._live_once()
                if self._stopping.is_set():
                    return
                log.warning("child_ended", child=self.name, ending=ending)
                self._events.on_exit(ending)
            except Exception:
                # no fork, or no ledger to tell of the end: the child is started again all the same
                log.exception("child_not_supervised", child=self.name)
            if time.monotonic() - started > _STEADY_AFTER_S:
                pause_s = _RESTART_FIRST_S
            self._stopping.wait(pause_s)
            pause_s = min(2 * pause_s, _RESTART_LONGEST_S)

    def _live_once(self) -> str:
        """Run the process until it ends; return how, in words."""
        pipe, theirs = _SPAWN.Pipe()
        process = _SPAWN.Process(
            target=_child_main, args=(theirs, self._target, self._args), name=self.name
        )
        process.start()
        theirs.close()
        self._why_killed = ""
        self._process = process
        with self._sending:
            self._pipe = pipe
        if self._stopping.is_set():  # stop() came before there was a pipe to say so
            self.send("stop")
        log.info("child_started", child=self.name, pid=process.pid)
        try:
            self._listen(process, pipe)
        finally:
            with self._sending:
                self._pipe = None
                pipe.close()
        process.join()
        return self._why_killed or _in_words(process.exitcode)

    def _listen(self, process: SpawnProcess, pipe: Any) -> None:
        heard = time.monotonic()
        while True:
            ready = wait([pipe, process.sentinel], timeout=BEAT_EVERY_S)
            if pipe in ready:
                try:
                    message = pipe.recv()
                except (EOFError, OSError):
                    return
                heard = time.monotonic()
                if message[0] != "beat":
                    self._events.on_message(message)
            elif process.sentinel in ready:
                return
            elif time.monotonic() - heard > self._frozen_after_s:
                self.kill(f"frozen: no heartbeat for {self._frozen_after_s:g} s")
                return


def _child_main(pipe: Any, target: Callable[..., None], args: tuple[Any, ...]) -> None:
    # Ctrl-C, and systemd's SIGTERM, reach every process: the supervisor alone decides when to stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    exitcode = 0
    try:
        target(ChildLink(pipe), *args)
    except Exception:
        log.exception("child_failed")
        exitcode = 1
    _end_at_once(exitcode)


def _in_words(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return f"killed by {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"
