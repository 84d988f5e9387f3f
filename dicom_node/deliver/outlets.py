"""What stands between the queue of a destination and the network: breaker, hours and limits.

A destination that cannot be reached several times in a row is left alone: nothing is started for
it, so a weekend costs the queue nothing, however long it is. One C-ECHO after the other, further
and further apart, finds out when it is back; then everything goes at once.
"""

from __future__ import annotations

import threading
import time

import structlog

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.deliver.archive import Archive
from dicom_node.deliver.limits import Limiter
from dicom_node.deliver.patience import FAILURES_MIN, probe_wait_s
from dicom_node.deliver.windows import LocalTime, least_urgent
from dicom_node.errors import DeliveryError
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.transitions import is_over
from dicom_node.lifecycle import BreakerState
from dicom_node.model import Breaker, Priority

log = structlog.get_logger()


class Outlets:
    """One outlet for each destination; from any thread.

    Parameters
    ----------
    archives : mapping of str to Archive
        The destinations by name.
    local_time : callable
        What the clock on the wall shows, for `peers.*.hours`.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        archives: dict[str, Archive],
        clock: Clock,
        local_time: LocalTime = time.localtime,
    ) -> None:
        self._settings = config.deliver
        self._peers = config.destinations
        self._ledger = ledger
        self._archives = archives
        self._clock = clock
        self._local_time = local_time
        self._failures: dict[str, int] = {}
        self._open: set[str] | None = None
        self._locks = {name: threading.Lock() for name in archives}
        self._limiters = {
            name: Limiter(peer.instances_per_minute, peer.megabytes_per_minute)
            for name, peer in self._peers.items()
        }

    def is_closed(self, destination: str) -> bool:
        """Return whether nothing may go out; an open breaker is probed first, if that is due."""
        if self._open is None:  # the ledger is made after this is
            self._open = {breaker.destination for breaker in self._ledger.breakers.all_open()}
        archive = self._archives.get(destination)
        if archive is None or destination not in self._open:
            return False
        breaker = self._ledger.breakers.get(destination)  # the operator may hurry its probe
        if breaker is None or breaker.state is BreakerState.CLOSED:
            return False
        lock = self._locks[destination]
        if not is_over(breaker.not_before, self._clock()) or not lock.acquire(blocking=False):
            return True
        try:
            return not self._probe(breaker, archive)
        finally:
            lock.release()

    def least_urgent(self, destination: str) -> Priority:
        """Return the priority from which on things may go out, by the hours of a destination."""
        peer = self._peers.get(destination)
        hours = peer.hours if peer is not None else ()
        return least_urgent(hours, self._local_time(self._clock()))

    def has_room(self, destination: str) -> bool:
        """Return whether one more instance may go out now, by the limits of a destination."""
        limiter = self._limiters.get(destination)
        return limiter is None or limiter.has_room(self._clock())

    def spend(self, destination: str, instances: int, size_bytes: int) -> None:
        """Take note of what goes out."""
        limiter = self._limiters.get(destination)
        if limiter is not None:
            limiter.spend(instances, size_bytes)

    def worked(self, destination: str) -> None:
        """It answered."""
        self._failures.pop(destination, None)

    def failed(self, destination: str, error: DeliveryError) -> None:
        """It could not be reached; so many times in a row, and its breaker opens."""
        if destination not in self._archives:
            return
        failures = self._failures.get(destination, 0) + 1
        self._failures[destination] = failures
        if failures < self._settings.breaker_failures:
            return
        now = self._clock()
        in_vain = failures - self._settings.breaker_failures
        not_before = now + probe_wait_s(destination, in_vain, self._settings)
        opened = self._ledger.breakers.opened(
            destination, failures, error.in_words, not_before, now
        )
        if self._open is not None:
            self._open.add(destination)
        self._hurry(destination, now)  # from here on the probe says when they go
        if opened:
            log.error("destination_down", destination=destination, reason=error.in_words)

    def _probe(self, breaker: Breaker, archive: Archive) -> bool:
        name = breaker.destination
        try:
            archive.echo()
        except DeliveryError as error:
            now = self._clock()
            in_vain = breaker.failures + 1 - self._settings.breaker_failures
            not_before = now + probe_wait_s(name, in_vain, self._settings)
            self._ledger.breakers.failed(breaker, error.in_words, not_before, now)
            self._give_up_late(breaker, error, now)
            return False
        now = self._clock()
        self._failures[name] = breaker.failures  # one more, and it opens again, for longer
        self._ledger.breakers.answered(name, "it answers the C-ECHO", now)
        if self._open is not None:
            self._open.discard(name)
        self._hurry(name, now)
        log.info("destination_back", destination=name)
        return True

    def _hurry(self, destination: str, now: float) -> None:
        self._ledger.deliveries.hurry(now, destination)
        self._ledger.forwards.hurry(now, destination)

    def _give_up_late(self, breaker: Breaker, error: DeliveryError, now: float) -> None:
        """Give up what has waited for days: nobody starts it while the breaker is open."""
        if breaker.failures < FAILURES_MIN:
            return  # a clock that was wrong at boot must not end what was hardly tried
        tried_before = now - self._settings.give_up_after_h * 3600
        name, reason = breaker.destination, error.in_words
        given_up = self._ledger.deliveries.give_up_late(name, tried_before, reason, now)
        given_up += self._ledger.forwards.give_up_late(name, tried_before, reason, now)
        if given_up:
            log.error("deliveries_dead", destination=name, deliveries=given_up, reason=reason)
