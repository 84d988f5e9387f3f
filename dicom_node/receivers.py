"""The supervisor's end of the receivers: their sockets, their processes, and their logs.

The supervisor listens and every receiver accepts from its sockets, so a receiver that dies takes no
caller with it that was not yet let in, and its successor goes on where it was.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import structlog

from dicom_node.clock import Checkpoint, Clock
from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError
from dicom_node.executor.child import Child, ChildEvents, Message
from dicom_node.ledger.ledger import Ledger
from dicom_node.receive.ingest import Ingest, IngestThread, log_names
from dicom_node.receive.scp import listen
from dicom_node.receiver import receive
from dicom_node.store.local import LocalStore

log = structlog.get_logger()

_PORT_WAIT_S = 5.0
_PORT_AGAIN_S = 0.25
_CORES_A_RECEIVER = 4
_RECEIVERS_MAX = 4


class Receivers:
    """Starts receivers, restarts them, and has what they wrote read into the ledger.

    Parameters
    ----------
    hint : callable
        Called when an association has ended and its rows are in the ledger.
    failed : callable
        Told why the ledger does not take what was received.
    """

    def __init__(
        self,
        config: Config,
        store: LocalStore,
        ledger: Ledger,
        clock: Clock,
        hint: Callable[[], None],
        failed: Callable[[str], None],
        checkpoint: Checkpoint,
    ) -> None:
        self._config = config
        self._store = store
        self._ledger = ledger
        self._clock = clock
        self._hint = hint
        self._checkpoint = checkpoint
        self._ingest = Ingest(
            store, ledger, clock, config.receive.same_uid_other_bytes, hint, checkpoint
        )
        self._thread = IngestThread(self._ingest, failed)
        self._listeners: list[socket.socket] = []
        self._children: dict[str, Child] = {}
        self._asked: dict[tuple[str, int], set[str]] = {}
        self._asking = threading.Lock()

    def listen(self) -> None:
        """Listen; wait a little for a predecessor that was killed and still has the port.

        Raises
        ------
        ConfigError
            If a port cannot be listened on.
        """
        ports = [self._config.receive.port]
        if self._config.tls.port is not None:
            ports.append(self._config.tls.port)
        give_up_at = time.monotonic() + _PORT_WAIT_S
        while len(self._listeners) < len(ports):
            port = ports[len(self._listeners)]
            try:
                self._listeners.append(listen(self._config.receive.host, port))
            except ConfigError:
                if time.monotonic() > give_up_at:
                    self._close_listeners()
                    raise
                time.sleep(_PORT_AGAIN_S)

    def recover(self) -> int:
        """Read every log to its end, before a receiver writes again; return how many records."""
        return sum(self._ingest.recover(name) for name in log_names(self._store.root))

    def start(self) -> None:
        self._thread.start()
        for number in range(receiver_count(self._config)):
            self._start(str(number))

    def stop(self, grace_s: float) -> None:
        """Stop receiving; what was received is in the ledger afterwards."""
        for child in self._children.values():
            child.stop(grace_s)
        self._close_listeners()
        self._thread.stop()

    def is_idle(self) -> bool:
        """Return whether the ledger has everything that the receivers spoke of."""
        return self._thread.is_idle()

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            listener.close()
        self._listeners.clear()

    def _start(self, name: str) -> None:
        child = Child(
            f"receiver-{name}" if self._children else "receiver",
            receive,
            (self._config, name, tuple(self._listeners), self._checkpoint),
            ChildEvents(
                on_message=lambda message: self._heard(name, message),
                on_exit=lambda ending: self._ended(name, ending),
            ),
        )
        self._children[name] = child
        child.start()

    def _heard(self, name: str, message: Message) -> None:
        if message[0] == "durable":
            self._thread.durable(name, message[1])
        elif message[0] == "listening":
            log.info("listening", port=message[1], ae_title=self._config.node.ae_title)
        elif message[0] == "catch_up":
            self._ask(name, message[1])
        elif message[0] == "told":
            self._told(name, (message[1], message[2]))

    def _ended(self, name: str, ending: str) -> None:
        """Read what a receiver left in its log, before it is started again."""
        now = self._clock()
        recovered = self._ingest.recover(name)
        lost = self._ingest.close_lost(name, now)
        reason = (
            f"the receiver ended ({ending}); {recovered} records were read from its log, "
            f"{lost} associations were lost"
        )
        self._ledger.events.record(now, ("node", "receiver"), "RESTARTED", reason)
        for asked in list(self._asked):
            self._told(name, asked)
        self._hint()

    # ------------------------------------------------------------ catching up

    def _ask(self, asker: str, token: int) -> None:
        """Have every receiver tell what is durable, for one that answers from the ledger."""
        asked = (asker, token)
        with self._asking:
            self._asked[asked] = set(self._children)
        for name, child in self._children.items():
            if not child.send("tell", asker, token):  # it is gone, and its log is being read
                self._told(name, asked)

    def _told(self, name: str, asked: tuple[str, int]) -> None:
        with self._asking:
            waiting = self._asked.get(asked)
            if waiting is None:
                return
            waiting.discard(name)
            if waiting:
                return
            del self._asked[asked]
        asker, token = asked
        self._thread.when_caught_up(lambda: self._children[asker].send("caught_up", token))


def receiver_count(config: Config) -> int:
    """Return how many receivers there are: one keeps up with four cores' worth of senders."""
    if config.receive.receivers != "auto":
        return config.receive.receivers
    return min(_RECEIVERS_MAX, max(1, len(os.sched_getaffinity(0)) // _CORES_A_RECEIVER))
