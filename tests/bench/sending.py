"""What is measured of the node's sending, in a process of its own."""

from __future__ import annotations

import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from dicom_node.config.settings import Config, DeliverSettings, NodeSettings, Peer
from dicom_node.deliver.copies import Copies
from dicom_node.deliver.dicom_archive import dicom_archives
from dicom_node.deliver.forwarder import Forwarder
from dicom_node.deliver.originals import read_original
from dicom_node.deliver.outlets import Outlets
from dicom_node.deliver.store_scu import send_originals
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Forward, Instance, Priority
from dicom_node.protocol.acceptance import Acceptance
from dicom_node.protocol.command import CommandField, Element, encode, ui, us
from dicom_node.protocol.pdu import COMMAND, HEADER, PduType
from dicom_node.scu.association import MAXIMUM_LENGTH
from dicom_node.scu.fragments import Fragments
from dicom_node.scu.negotiation import proposed, request_of
from dicom_node.scu.peers import address_of
from dicom_node.store.local import LocalStore
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, HandClock, an_instance
from tests.unit.route.made import key_of


@dataclass(frozen=True)
class Sending:
    """What to send to whom: every file of a folder, in the order of their names."""

    host: str
    port: int
    folder: Path
    sop_class_uid: str
    transfer_syntax_uid: str
    associations: int

    def config(self) -> Config:
        peer = Peer(
            ae_title="ANY-SCP",
            host=self.host,
            port=self.port,
            may_send=False,
            associations=self.associations,
        )
        return Config(
            node=NodeSettings(ae_title="DICOM_NODE", data_dir=self.folder),
            deliver=DeliverSettings(),
            peers={"archive": peer},
        )

    def instances(self) -> list[Instance]:
        """Return the files as the ledger would know them."""
        return [
            an_instance(
                sop_instance_uid=f"1.2.3.{number}",
                sop_class_uid=self.sop_class_uid,
                transfer_syntax_uid=self.transfer_syntax_uid,
                path=f"{self.folder.name}/{file.name}",
                digest=str(number),
            )
            for number, file in enumerate(sorted(self.folder.iterdir()))
        ]


def send_files(job: Sending) -> tuple[float, float, float]:
    """Read the heads of the files and send them; return seconds, CPU seconds, and MB more."""
    config, store, instances = job.config(), LocalStore(job.folder.parent), job.instances()
    address = address_of(config.peers["archive"], config)

    def send() -> None:
        originals = [read_original(store, instance) for instance in instances]
        assert list(send_originals(originals, address)) == ["stored"] * len(instances)

    return _measured(send)


def bare(job: Sending) -> tuple[float, float, float]:
    """Send messages that are ready in memory, one call out and one in: what is left is the peer's.

    Nobody who waits for each answer, as one association must, is faster at this peer in Python.
    """
    store = LocalStore(job.folder.parent)
    offered = proposed([(job.sop_class_uid, job.transfer_syntax_uid)])
    with socket.create_connection((job.host, job.port)) as peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer.sendall(request_of(offered, "BARE", "ANY-SCP", ()))
        _, body = _pdu_of(peer)
        room = min(Acceptance.parse(body).maximum_length or MAXIMUM_LENGTH, MAXIMUM_LENGTH) - 6
        messages = [
            _message(offered[1].context_id, room, number, instance, store)
            for number, instance in enumerate(job.instances(), start=1)
        ]

        def send() -> None:
            for message in messages:
                peer.sendall(message)
                kind, _ = _pdu_of(peer)
                assert kind == PduType.DATA_TF

        return _measured(send)


def _message(
    context_id: int, room: int, number: int, instance: Instance, store: LocalStore
) -> bytes:
    """Return a C-STORE-RQ as it goes out."""
    data_set = read_original(store, instance).content.read()
    command = encode(
        {
            Element.AFFECTED_SOP_CLASS_UID: ui(instance.sop_class_uid),
            Element.COMMAND_FIELD: us(CommandField.C_STORE),
            Element.MESSAGE_ID: us(number),
            Element.PRIORITY: us(0),
            Element.COMMAND_DATA_SET_TYPE: us(1),
            Element.AFFECTED_SOP_INSTANCE_UID: ui(instance.sop_instance_uid),
        }
    )
    buffers = Fragments(context_id, COMMAND, room, len(command)).of(memoryview(command))
    buffers += Fragments(context_id, 0, room, len(data_set)).of(memoryview(data_set))
    return b"".join(buffers)


def _pdu_of(peer: socket.socket) -> tuple[int, bytes]:
    data = peer.recv(1 << 16)
    while len(data) < HEADER.size or len(data) < HEADER.size + HEADER.unpack_from(data)[1]:
        more = peer.recv(1 << 16)
        assert more, "the peer closed"
        data += more
    return int(HEADER.unpack_from(data)[0]), data[HEADER.size :]


def forward(job: Sending) -> tuple[float, float, float]:
    """Let the forwarder do it, with a ledger on disk, as a node forwards a study."""
    instances = job.instances()
    with tempfile.TemporaryDirectory(dir=job.folder.parent.parent) as folder:
        ledger = rows.new_ledger(Path(folder))
        for instance in instances:
            ledger.studies.instance_stored(instance)
        store, clock = LocalStore(job.folder.parent), HandClock()
        copies = Copies(ledger, store, {}, b"")
        config = job.config()
        archives = dicom_archives(config, store)
        outlets = Outlets(config, ledger, archives, clock)
        forwarder = Forwarder(config, ledger, archives, copies, outlets, clock)
        keys = tuple(key_of(instance) for instance in instances)
        planned = Forward("archive", "", Priority.ROUTINE, "all", keys)
        ledger.routing.forward_at_once(STUDY, [planned], clock())

        def send() -> None:
            while forwarder.turn("archive"):
                pass

        measured = _measured(send)
        [task] = ledger.forwards.of_study(STUDY)
        assert task.state is DeliveryState.SENT
        ledger.close()
    return measured


def _measured(send: Callable[[], None]) -> tuple[float, float, float]:
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # let VmHWM start again (proc(5))
    before = _status("VmRSS")
    cpu_s, begin = time.process_time(), time.perf_counter()
    send()
    seconds, cpu_s = time.perf_counter() - begin, time.process_time() - cpu_s
    return seconds, cpu_s, (_status("VmHWM") - before) / 1000


def _status(key: str) -> int:
    """Return a size in kB from /proc/self/status."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    return 0
