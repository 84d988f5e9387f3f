"""What all associations of a receiver share: memory, the log, limits, services."""

from __future__ import annotations

import shutil
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from threading import Semaphore

import structlog

from dicom_node.clock import Checkpoint, Clock
from dicom_node.config.settings import Config
from dicom_node.errors import InstanceRefused, StoreFull
from dicom_node.receive.arriving import BlockPool
from dicom_node.receive.contexts import Negotiator
from dicom_node.receive.policy import Admission, Identity, Status
from dicom_node.receive.service import (
    DimseStatus,
    EventReport,
    Service,
    ServiceReply,
    ServiceRequest,
)
from dicom_node.store.large import LargeFileWriter
from dicom_node.store.local import LocalStore
from dicom_node.store.receive_log import Entry

log = structlog.get_logger()

_LOOK_AT_ROOM_EVERY_S = 0.25
_SERVICE_THREADS = 4
_REPLIES_AHEAD = 64
_SAME_NOTES = 20
_SAME_NOTES_WITHIN_S = 60.0
_NOTES_REMEMBERED = 1024

KnownDigest = Callable[[Identity], str | None]
"""Returns the digest of the instance that the ledger has under these UIDs."""


class Notes:
    """Keeps a flood of equal events from filling the ledger: so many a minute are written."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: OrderedDict[tuple[str, str, str], tuple[float, int]] = OrderedDict()

    def wanted(self, event: str, subject: str, reason: str) -> bool:
        """Return whether to write this event."""
        key, now = (event, subject, reason), self._clock()
        since, times = self._seen.get(key, (now, 0))
        if now - since > _SAME_NOTES_WITHIN_S:
            since, times = now, 0
        self._seen[key] = (since, times + 1)
        self._seen.move_to_end(key)
        if len(self._seen) > _NOTES_REMEMBERED:
            self._seen.popitem(last=False)
        return times < _SAME_NOTES


class Doorway:
    """Shared by the associations of one receiver; on the loop's thread but where it says so.

    Parameters
    ----------
    config : Config
    store : LocalStore
    large_files : LargeFileWriter
    append : callable
        Hands an entry to the receive log.
    call_soon : callable
        Has the loop call something; from any thread.
    services : mapping
        By abstract syntax.
    known_digest : callable, optional
        For `receive.same_uid_other_bytes: refuse`.
    """

    def __init__(
        self,
        config: Config,
        store: LocalStore,
        large_files: LargeFileWriter,
        append: Callable[[Entry], None],
        call_soon: Callable[[Callable[[], None]], None],
        services: Mapping[str, Service],
        clock: Clock,
        known_digest: KnownDigest | None = None,
        checkpoint: Checkpoint = lambda name: None,
    ) -> None:
        self.settings = config.receive
        self.clock = clock
        self.pool = BlockPool()
        self.large_files = large_files
        self.append = append
        self.call_soon = call_soon
        self.services = services
        self.admission = Admission(config)
        self.negotiator = Negotiator(
            services.keys(), self.settings.extra_sop_classes, self.settings.pdu_bytes_max
        )
        self.notes = Notes()
        self.checkpoint = checkpoint
        self._store = store
        self._known_digest = known_digest
        self._underway: OrderedDict[Identity, str] = OrderedDict()
        self._open: Counter[str] = Counter()
        self._has_room = True
        self._looked_at = 0.0
        self._threads = ThreadPoolExecutor(_SERVICE_THREADS, "service")

    # ------------------------------------------------------------ limits

    def enter(self, calling_ae_title: str) -> str | None:
        """Count an association; return why it may not be, None if it may."""
        if self._open.total() >= self.settings.associations_max:
            return "too many associations are open (receive.associations_max)"
        if self._open[calling_ae_title] >= self.settings.associations_per_peer_max:
            return "it has too many associations open (receive.associations_per_peer_max)"
        self._open[calling_ae_title] += 1
        return None

    def leave(self, calling_ae_title: str) -> None:
        self._open[calling_ae_title] -= 1
        if not self._open[calling_ae_title]:
            del self._open[calling_ae_title]

    def require_room(self) -> None:
        """Raise StoreFull if less is free than receive.free_bytes_min."""
        now = time.monotonic()
        if now - self._looked_at > _LOOK_AT_ROOM_EVERY_S:
            self._looked_at = now
            free = shutil.disk_usage(self._store.root).free
            self._has_room = free >= self.settings.free_bytes_min
        if not self._has_room:
            raise StoreFull(
                "less than receive.free_bytes_min is free", hint="free space on node.data_dir"
            )

    def refuse_conflict(self, identity: Identity, digest: str) -> None:
        """Refuse other bytes under known UIDs, where the site wants that.

        The ledger may lag behind by what was just received, so that is remembered here.
        """
        if self._known_digest is None:
            return
        known = self._underway.get(identity) or self._known_digest(identity)
        if known is not None and known != digest:
            raise InstanceRefused(
                "another data set is kept under its SOP Instance UID",
                status=Status.CANNOT_UNDERSTAND,
                hint="give the changed instance a UID of its own, or see "
                "receive.same_uid_other_bytes",
            )
        self._underway[identity] = digest
        if len(self._underway) > 10_000:
            self._underway.popitem(last=False)

    # ------------------------------------------------------------ services

    def serve(
        self,
        service: Service,
        request: ServiceRequest,
        reply: Callable[[ServiceReply | EventReport], None],
        ended: Callable[[], None],
    ) -> None:
        """Run a service on a thread of its own; `reply` and `ended` are called on the loop's."""
        ahead = Semaphore(_REPLIES_AHEAD)

        def pass_on(answer: ServiceReply | EventReport) -> None:
            ahead.acquire()

            def on_loop() -> None:
                ahead.release()
                reply(answer)

            self.call_soon(on_loop)

        def run() -> None:
            try:
                for answer in service(request):
                    pass_on(answer)
            except Exception:
                log.exception("service_failed", sop_class_uid=request.sop_class_uid)
                pass_on(ServiceReply(DimseStatus.PROCESSING_FAILURE))
            finally:
                self.call_soon(ended)

        self._threads.submit(run)

    def stop(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
