"""The child process that owns the DICOM door, or a part of it."""

from __future__ import annotations

import os
import resource
import socket
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from itertools import count

from pydicom.dataset import Dataset

from dicom_node.clock import Checkpoint
from dicom_node.config.settings import Config
from dicom_node.executor.child import ChildLink
from dicom_node.headers import read_header_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.logs import configure_logs
from dicom_node.model import Instance
from dicom_node.receive.policy import Identity
from dicom_node.receive.scp import Receiver
from dicom_node.receive.services import standard_services
from dicom_node.store.local import LocalStore
from dicom_node.store.record import RecordKind
from dicom_node.store.replay import LogPiece

_TELL_EVERY_S = 0.1
"""So many rows gather for one transaction of the ledger."""
_CATCH_UP_S = 10.0
"""A service that answers from the ledger waits so long for what was acknowledged before."""


def receive(
    link: ChildLink,
    config: Config,
    name: str,
    listeners: Sequence[socket.socket],
    checkpoint: Checkpoint,
) -> None:
    """Serve until the supervisor says stop, or is gone."""
    configure_logs(config.node.log_level)
    _allow_descriptors(config.receive.connections_max)
    store = LocalStore(config.node.data_dir, checkpoint=checkpoint)
    ledger = Ledger(config.ledger_url)
    teller = _Teller(link)
    refuses = config.receive.same_uid_other_bytes == "refuse"
    receiver = Receiver(
        config,
        store,
        name,
        listeners,
        time.time,
        services=standard_services(
            ledger,
            config,
            teller.caught_up,
            lambda instance: _header(store, instance),
            lambda instance: store.file(instance.path).exists(),
            time.time,
        ),
        on_durable=teller.durable,
        on_failure=lambda: os._exit(1),  # the supervisor starts another one
        known_digest=(lambda identity: _known_digest(ledger, identity)) if refuses else None,
        checkpoint=checkpoint,
    )
    teller.start()
    receiver.start()
    link.send("listening", listeners[0].getsockname()[1])
    while (message := link.receive())[0] != "stop":
        if message[0] == "tell":
            teller.tell(message[1], message[2])
        elif message[0] == "caught_up":
            teller.take_answer(message[1])
    receiver.stop()
    teller.stop()
    ledger.close()


class _Teller:
    """Tells the supervisor what became durable, not more often than the ledger can use it."""

    def __init__(self, link: ChildLink) -> None:
        self._link = link
        self._changed = threading.Condition()
        self._untold: LogPiece | None = None
        self._told: list[tuple[str, int]] = []
        self._tokens = count(1)
        self._answered: set[int] = set()
        self._is_hurried = False
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="teller", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def durable(self, piece: LogPiece) -> None:
        """Take note; called on the log's thread."""
        ends = any(head.kind is RecordKind.ASSOCIATION_CLOSED for head in piece.heads or ())
        with self._changed:
            first = self._untold is None
            self._untold = piece if self._untold is None else self._untold.then(piece)
            self._is_hurried |= ends
            if first or ends:
                self._changed.notify_all()

    def caught_up(self) -> bool:
        """Wait until the ledger has all that any receiver has acknowledged until now.

        Returns
        -------
        bool
            False if that did not come true within some seconds.
        """
        token = next(self._tokens)
        self._link.send("catch_up", token)
        with self._changed:
            came = self._changed.wait_for(lambda: token in self._answered, _CATCH_UP_S)
            self._answered.discard(token)
        return came

    def tell(self, asker: str, token: int) -> None:
        """Tell everything now, since a receiver waits for it."""
        with self._changed:
            self._told.append((asker, token))
            self._is_hurried = True
            self._changed.notify_all()

    def take_answer(self, token: int) -> None:
        """The supervisor says that the ledger has it."""
        with self._changed:
            self._answered.add(token)
            self._changed.notify_all()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping:
            with self._changed:
                self._changed.wait_for(lambda: self._untold or self._told or self._stopping)
            self._tell_all()
            with self._changed:
                self._changed.wait_for(lambda: self._is_hurried or self._stopping, _TELL_EVERY_S)
        self._tell_all()

    def _tell_all(self) -> None:
        with self._changed:
            piece, self._untold = self._untold, None
            told, self._told = self._told, []
            self._is_hurried = False
        if piece is not None:
            self._link.send("durable", piece)
        for asker, token in told:
            self._link.send("told", asker, token)


def _header(store: LocalStore, instance: Instance) -> Dataset:
    return read_header_of(store.file(instance.path))


def _known_digest(ledger: Ledger, identity: Identity) -> str | None:
    known: Instance | None = ledger.studies.instance(
        identity.study_instance_uid, identity.series_instance_uid, identity.sop_instance_uid
    )
    return None if known is None else known.digest


def _allow_descriptors(connections_max: int) -> None:
    """Raise our limit of open files so far as the system lets us."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections_max + 256
    soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
