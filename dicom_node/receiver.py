"""The child process that owns the DICOM door."""

from __future__ import annotations

import time

from dicom_node.clock import Checkpoint
from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError
from dicom_node.executor.child import ChildLink
from dicom_node.ledger.ledger import Ledger
from dicom_node.logs import configure_logs
from dicom_node.receive.scp import Receiver
from dicom_node.receive.stream import InstanceKeeper
from dicom_node.store.local import LocalStore

_PORT_WAIT_S = 5.0
_PORT_AGAIN_S = 0.25


def receive(link: ChildLink, config: Config, checkpoint: Checkpoint) -> None:
    """Listen until the supervisor says stop, or is gone."""
    configure_logs(config.node.log_level)
    store = LocalStore(config.node.data_dir, checkpoint=checkpoint)
    ledger = Ledger(config.ledger_url)
    keeper = InstanceKeeper(store, ledger, time.time, config.receive.free_bytes_min, checkpoint)
    receiver = Receiver(
        config, keeper, ledger, time.time, checkpoint, on_association_end=lambda: link.send("hint")
    )
    try:
        port = _listen(receiver)
    except ConfigError as error:
        link.send("failed", error.message, error.hint)
        return
    link.send("listening", port)
    while link.receive()[0] != "stop":
        continue
    receiver.stop()
    ledger.close()


def _listen(receiver: Receiver) -> int:
    """Listen; wait a little for a predecessor that was killed and still has the port."""
    give_up_at = time.monotonic() + _PORT_WAIT_S
    while True:
        try:
            return receiver.start()
        except ConfigError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(_PORT_AGAIN_S)
