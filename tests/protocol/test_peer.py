"""The scripted peer on loopback: an honest one against pynetdicom, and its tricks on a socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.answers import Aborted, Accepted, Closed, Rejected, Released
from dicom_node.harness.archive import Archive
from dicom_node.harness.faults import DeafArchive, FailingArchive, RejectingArchive
from dicom_node.harness.pdu import VERIFICATION, Context, abort, pdu
from dicom_node.harness.peer import ScriptedPeer
from dicom_node.scu.part10 import Part10File

HOST = "127.0.0.1"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """Return a listening socket that a test accepts on by itself."""
    with socket.create_server((HOST, 0)) as server:
        server.settimeout(5.0)
        yield server


def port_of(listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    return port


# ------------------------------------------------------------ an honest peer


def test_a_store_arrives_as_it_was_sent(tmp_path: Path, data_dir: Path) -> None:
    file = Part10File.read(data_dir / "ct-chest-lctsc-011" / "001.dcm")
    assert file.context is not None
    sop_class_uid, transfer_syntax_uid = file.context
    with Archive(tmp_path) as archive, ScriptedPeer(HOST, archive.port) as peer:
        contexts = [
            Context(1, VERIFICATION),
            Context(3, sop_class_uid, [transfer_syntax_uid]),
            Context(5, "1.2.3.4"),
        ]
        accepted = peer.associate(contexts, calling="CT1", called="ARCHIVE")
        assert isinstance(accepted, Accepted)
        assert (set(accepted.contexts), accepted.refused) == ({1, 3}, {5: 3})
        assert accepted.pdu_bytes_max == 131072
        assert peer.echo() == 0x0000
        assert peer.store(3, sop_class_uid, file.sop_instance_uid, file.data_set()) == 0x0000
        assert peer.release() == Released()
        assert peer.read_until_closed(5.0) == [Closed(reset=False)]
        [received] = archive.received()
        assert Part10File.read(received.path).data_set() == file.data_set()
        assert received.calling_ae_title == "CT1"


def test_a_failure_is_a_status(tmp_path: Path, data_dir: Path) -> None:
    file = Part10File.read(data_dir / "ct-chest-lctsc-011" / "001.dcm")
    assert file.context is not None
    failing = FailingArchive(tmp_path, status=0xA700)
    with failing as archive, ScriptedPeer(HOST, archive.port) as peer:
        peer.associate([Context(1, file.context[0], [file.context[1]])])
        status = peer.store(1, file.context[0], file.sop_instance_uid, file.data_set())
        assert status == 0xA700
        peer.abort()


def test_a_rejection_is_an_answer(tmp_path: Path) -> None:
    with RejectingArchive(tmp_path) as archive, ScriptedPeer(HOST, archive.port) as peer:
        assert peer.associate() == Rejected(1, 1, 3)


def test_what_breaks_the_protocol_is_answered_by_an_abort(tmp_path: Path) -> None:
    with Archive(tmp_path) as archive, ScriptedPeer(HOST, archive.port) as peer:
        peer.associate()
        peer.send(pdu(0x09))
        aborted = peer.receive()
        assert isinstance(aborted, Aborted)
        assert aborted.source == 2  # the service provider


# ------------------------------------------------------------ its tricks


def test_silence_is_a_time_out(tmp_path: Path) -> None:
    with DeafArchive(tmp_path) as archive, ScriptedPeer(HOST, archive.port, 0.05) as peer:
        with pytest.raises(TimeoutError):
            peer.associate()
        with pytest.raises(TimeoutError):
            peer.read_until_closed(0.05)


def test_half_an_answer_is_kept_for_the_next_look(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener)) as peer, listener.accept()[0] as accepted:
        accepted.sendall(abort(2, 1)[:7])
        with pytest.raises(TimeoutError):
            peer.receive(0.05)
        accepted.sendall(abort(2, 1)[7:])
        assert peer.receive() == Aborted(2, 1)


def test_a_connection_that_ends_inside_an_answer_is_closed(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener)) as peer:
        with listener.accept()[0] as accepted:
            accepted.sendall(abort()[:7])
        assert peer.receive() == Closed(reset=False)


def test_a_half_closed_connection_still_hears(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener)) as peer, listener.accept()[0] as accepted:
        peer.half_close()
        assert accepted.recv(1) == b""
        accepted.sendall(abort(0, 0))
        assert peer.receive() == Aborted(0, 0)


def test_a_reset_is_seen_as_one(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener)) as peer, listener.accept()[0] as accepted:
        peer.reset()
        with pytest.raises(ConnectionResetError):
            accepted.recv(1)
    with pytest.raises(PeerUnreachable, match="not open"):
        peer.send(b"more")


def test_bytes_can_go_out_one_by_one(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener)) as peer, listener.accept()[0] as accepted:
        peer.send(bytes(range(200)), piece_bytes=1)
        peer.close()
        received = bytearray()
        while piece := accepted.recv(1024):
            received += piece
        assert received == bytes(range(200))


def test_a_flood_says_how_much_was_taken(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener), 0.2) as peer, listener.accept()[0]:
        assert peer.flood([b"taken"]) == 5
        # nobody reads: the buffers fill up, and then nothing more is taken
        assert 5 < peer.flood(bytes(65536) for _ in range(10000)) < 655360000


def test_it_connects_from_the_address_that_it_is_told(listener: socket.socket) -> None:
    with ScriptedPeer(HOST, port_of(listener), source="127.0.1.7"):
        accepted, address = listener.accept()
        accepted.close()
        assert address[0] == "127.0.1.7"


def test_nobody_listening_is_unreachable(free_port: int) -> None:
    with pytest.raises(PeerUnreachable, match="cannot be connected to"):
        ScriptedPeer(HOST, free_port).connect()
