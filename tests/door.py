"""A receiver in this process, with its log read into a ledger whenever a test wants to look."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config, NodeSettings, Peer, ReceiveSettings
from dicom_node.ledger.ledger import Ledger
from dicom_node.receive.ingest import Ingest
from dicom_node.receive.scp import Receiver, listen
from dicom_node.receive.service import Service
from dicom_node.store.disk import LogDisk
from dicom_node.store.local import LocalStore
from dicom_node.store.replay import LOG_BEGIN, LogPiece

SMALL_SEGMENTS = {"segment_bytes": 16_777_216, "segments_ready": 1}
LOG = "0"


class Door:
    """Listens on a free port of 127.0.0.1; leaving the `with` block stops it.

    Parameters
    ----------
    folder : Path
        Holds the store, `data`, and the ledger.
    settings
        Of `receive`, where they differ from the test's defaults.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock = lambda: 1000.0,
        checkpoint: Checkpoint = pass_checkpoint,
        disk: LogDisk | None = None,
        store: LocalStore | None = None,
        peers: dict[str, Peer] | None = None,
        known_digest: Callable[[Ledger], Any] | None = None,
        services: Callable[[Ledger, Config], Mapping[str, Service]] | None = None,
        **settings: Any,
    ) -> None:
        receive = {"host": "127.0.0.1", "port": 0, "free_bytes_min": 0, **SMALL_SEGMENTS}
        self.config = Config(
            node=NodeSettings(ae_title="DICOM_NODE", data_dir=folder / "data"),
            receive=ReceiveSettings.model_validate(receive | settings),
            peers=peers or {"scanner": Peer(ae_title="SCANNER", may_send=True)},
        )
        self.store = store or LocalStore(folder / "data", checkpoint=checkpoint)
        self.ledger = Ledger(f"sqlite:///{folder / 'ledger.sqlite'}")
        self.ledger.migrate()
        self.ingest = Ingest(
            self.store, self.ledger, clock, self.config.receive.same_uid_other_bytes
        )
        self._listener = listen("127.0.0.1", 0)
        self.port: int = self._listener.getsockname()[1]
        self.receiver = Receiver(
            self.config,
            self.store,
            LOG,
            [self._listener],
            clock,
            services=None if services is None else services(self.ledger, self.config),
            known_digest=None if known_digest is None else known_digest(self.ledger),
            checkpoint=checkpoint,
            disk=disk,
        )

    def catch_up(self) -> Ledger:
        """Return the ledger once it has everything that was acknowledged."""
        durable = self.receiver.durable
        self.ingest.advance(LOG, LogPiece(LOG_BEGIN, durable, None))
        return self.ledger

    def __enter__(self) -> Self:
        self.receiver.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.receiver.stop()
        self._listener.close()
        self.ledger.close()
