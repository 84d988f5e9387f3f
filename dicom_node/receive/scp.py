"""The receiver: builds the door from its parts, starts and stops them."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Mapping, Sequence

import structlog

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError
from dicom_node.ledger.arrivals import NotedEvent
from dicom_node.receive.doorway import Doorway, KnownDigest
from dicom_node.receive.ingest import log_folder
from dicom_node.receive.loop import Listener, Loop
from dicom_node.receive.rows import event_texts
from dicom_node.receive.service import Service
from dicom_node.receive.tls import TlsDoor
from dicom_node.store.disk import LogDisk
from dicom_node.store.large import LargeFileWriter
from dicom_node.store.local import LocalStore
from dicom_node.store.receive_log import Entry, ReceiveLog
from dicom_node.store.record import RecordKind
from dicom_node.store.replay import LOG_BEGIN, LogPiece, LogPlace
from dicom_node.store.segments import SegmentPool

log = structlog.get_logger()

_BACKLOG = 4096


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens; several receivers may accept from it.

    Raises
    ------
    ConfigError
        If the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise ConfigError(
            f"cannot listen on {host} port {port}: {error.strerror}",
            hint="end the program that has the port, or change receive.port or tls.port",
        ) from error
    listener.setblocking(False)
    return listener


class Receiver:
    """A DICOM acceptor on sockets that listen already.

    Parameters
    ----------
    config : Config
    store : LocalStore
    name : str
        Of its log; no other receiver may have it.
    listeners : sequence of socket
        For plain DICOM, then for DICOM TLS if there is a second; not closed here.
    clock : Clock
    services : mapping
        Those beside storage and C-ECHO, by abstract syntax.
    on_durable : callable
        Told on the log's thread what has become durable.
    on_failure : callable
        Called when the door or the log cannot go on, by a mistake of ours.
    known_digest : callable, optional
        Looks into the ledger, for `receive.same_uid_other_bytes: refuse`.
    """

    def __init__(
        self,
        config: Config,
        store: LocalStore,
        name: str,
        listeners: Sequence[socket.socket],
        clock: Clock,
        services: Mapping[str, Service] | None = None,
        on_durable: Callable[[LogPiece], None] = lambda piece: None,
        on_failure: Callable[[], None] = lambda: None,
        known_digest: KnownDigest | None = None,
        checkpoint: Checkpoint = pass_checkpoint,
        disk: LogDisk | None = None,
    ) -> None:
        settings = config.receive
        disk = disk or LogDisk()
        self._clock = clock
        self._on_durable = on_durable
        self._on_failure = on_failure
        self._told = LOG_BEGIN
        folder = store.root / log_folder(name)
        self._pool = SegmentPool(
            folder, settings.segment_bytes, settings.segments_ready, disk, checkpoint
        )
        self._log = ReceiveLog(
            self._pool, settings.segment_bytes, disk, self._written, checkpoint, on_failure
        )
        self._large_files = LargeFileWriter(store, disk)
        plain, *secure = listeners
        doors = [Listener(plain)]
        for one in secure:
            try:
                doors.append(Listener(one, TlsDoor(config.tls, clock, self._tls_event)))
            except ConfigError as error:  # broken since the node's start: plain DICOM goes on
                self._tls_event("TLS_FAILED", f"no TLS until a restart: {error.message}")
        self._loop = Loop(doors)
        self._doorway = Doorway(
            config,
            store,
            self._large_files,
            self._log.append,
            self._loop.call_soon,
            services or {},
            clock,
            known_digest,
            checkpoint,
        )
        self._thread = threading.Thread(target=self._run, name="door", daemon=True)

    def start(self) -> None:
        """Serve, on threads of its own."""
        self._pool.start()
        self._log.start()
        self._large_files.start()
        self._thread.start()

    def stop(self) -> None:
        """Abort what is open; what was acknowledged is in the log."""
        self._loop.stop()
        self._thread.join()
        self._large_files.stop()
        self._doorway.stop()
        self._log.stop()
        self._pool.stop()
        self._loop.close()

    @property
    def durable(self) -> LogPlace:
        """Up to where the log is durable; from any thread."""
        return LogPlace(*self._log.durable)

    def _run(self) -> None:
        try:
            self._loop.run(self._doorway)
        except Exception:
            log.exception("door_failed")
            self._on_failure()

    def _written(self, entries: list[Entry]) -> None:
        """Tell the owners of a batch, on the loop's thread; on the log's thread itself."""
        end = LogPlace(*self._log.durable)
        heads = tuple(entry.head for entry in entries if entry.error is None)
        if heads:
            self._on_durable(LogPiece(self._told, end, heads))
            self._told = end
        owned = [entry for entry in entries if entry.owner is not None]
        if owned:  # after that: who was answered may ask what we hold
            self._loop.call_soon(lambda: _tell(owned))

    def _tls_event(self, name: str, reason: str) -> None:
        log.warning(name.lower(), reason=reason)
        row = NotedEvent(self._clock(), "node", "tls", name, reason)
        self._log.append(Entry(RecordKind.EVENT, event_texts(row)))


def _tell(entries: list[Entry]) -> None:
    for entry in entries:
        if entry.owner is not None:
            entry.owner(entry)
