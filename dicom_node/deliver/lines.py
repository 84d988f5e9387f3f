"""Several associations with one destination at a time: each takes the next instance that waits.

Each association has a thread of its own, which spends its time in system calls. An answer is noted
once, at the place of its instance, and handed out in order; an association that breaks costs the
one instance that was under way on it, and the others go on with the rest.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Self

import structlog

from dicom_node.deliver.line import Context, Line, Outcome
from dicom_node.errors import PeerUnreachable
from dicom_node.scu.address import Address

log = structlog.get_logger()

Store = Callable[[Line, int], Outcome]
"""Sends the instance of a number over a line; PeerUnreachable if the line is of no use any more."""


class Lines:
    """So many lines to a destination; a context manager that ends them all.

    Parameters
    ----------
    address : Address
    proposed : frozenset of Context
        What the first instances need: a line is open before it takes one.
    count : int
    """

    def __init__(self, address: Address, proposed: frozenset[Context], count: int) -> None:
        self._address = address
        self._proposed = proposed
        self._lines = [Line(address) for _ in range(count)]
        self._pool = ThreadPoolExecutor(count, f"to-{address.called_ae_title}")
        self._ends: list[Future[None]] = []
        self._changed = threading.Condition()
        self._outcomes: dict[int, Outcome] = {}
        self._next = 0
        self._working = 0
        self._stopping = False
        self._failure = address.unreachable()

    def outcomes(self, store: Store, count: int) -> Iterator[Outcome]:
        """Send so many instances; yield their outcomes in order.

        Raises
        ------
        PeerUnreachable
            If every line has broken, and none of what was not yielded was answered.
        """
        self._working = len(self._lines)
        self._ends = [self._pool.submit(self._work, line, store, count) for line in self._lines]
        for number in range(count):
            yield self._wait_for(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopping = True
        if error is not None:
            for line in self._lines:
                line.interrupt()
        self._pool.shutdown()

    def _wait_for(self, number: int) -> Outcome:
        with self._changed:
            self._changed.wait_for(lambda: number in self._outcomes or not self._working)
            outcome = self._outcomes.get(number)
            if outcome is None:
                for end in self._ends:
                    end.result()  # an error of ours is raised here
                raise self._failure
            if isinstance(outcome, PeerUnreachable) and not self._working:
                answered = [n for n, one in self._outcomes.items() if not _is_broken(one)]
                if max(answered, default=-1) < number:
                    raise outcome
            return outcome

    def _work(self, line: Line, store: Store, count: int) -> None:
        number: int | None = None
        try:
            with line:
                line.open(self._proposed)
                while (number := self._take(count)) is not None:
                    self._note(number, store(line, number))
        except PeerUnreachable as error:
            self._broke(number, error)
        finally:
            with self._changed:
                self._working -= 1
                self._changed.notify_all()

    def _take(self, count: int) -> int | None:
        with self._changed:
            if self._stopping or self._next == count:
                return None
            self._next += 1
            return self._next - 1

    def _note(self, number: int, outcome: Outcome) -> None:
        with self._changed:
            self._outcomes[number] = outcome
            self._changed.notify_all()

    def _broke(self, number: int | None, error: PeerUnreachable) -> None:
        """Note why a line is of no use any more, and what was under way on it."""
        if number is None:
            log.warning(
                "association_refused",
                destination=self._address.called_ae_title,
                reason=error.in_words,
            )
        with self._changed:
            self._failure = error
            if number is not None:
                self._outcomes[number] = error


def _is_broken(outcome: Outcome) -> bool:
    return isinstance(outcome, PeerUnreachable)
