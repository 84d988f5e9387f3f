"""One association as its requestor, beneath any service."""

from __future__ import annotations

import time

import pytest
from pynetdicom.dimse_primitives import C_FIND

from dicom_node.errors import InvariantBroken, PeerUnreachable
from dicom_node.harness.pdu import PduType, abort, pdu
from dicom_node.scu.negotiation import CONTEXTS_MAX
from dicom_node.scu.requestor import Requestor
from tests.protocol.acceptor import Acceptor, Caller

FIND = "1.2.840.10008.5.1.4.1.2.2.1"
IMPLICIT = "1.2.840.10008.1.2"
CONTEXT = (FIND, IMPLICIT)


def requestor(port: int, timeout_s: float = 20.0) -> Requestor:
    return Requestor("127.0.0.1", port, [CONTEXT], timeout_s=timeout_s)


def test_a_part_of_a_message_is_a_sign_of_life() -> None:
    """A large instance of a C-GET takes longer than a peer may be silent."""

    def script(caller: Caller) -> None:
        caller.accept()
        caller.read_message()
        caller.send(pdu(PduType.P_DATA_TF, bytes(100), length=2000))
        caller.wait_until_closed()

    with Acceptor(script) as acceptor:
        asking = requestor(acceptor.port)
        request = C_FIND()
        request.AffectedSOPClassUID = FIND
        request.Priority = 0
        asking.send(request, asking.accepted[CONTEXT])
        sent_at = time.monotonic()
        while asking.heard_at < sent_at:
            assert asking.receive(0.05) is None
        assert asking.is_alive()
        asking.abort()


def test_what_came_before_the_end_is_still_returned() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        request = caller.read_message()
        caller.answer(request, 0xFF00)
        caller.answer(request)
        caller.send(abort())

    with Acceptor(script) as acceptor:
        asking = requestor(acceptor.port)
        request = C_FIND()
        request.AffectedSOPClassUID = FIND
        request.Priority = 0
        asking.send(request, asking.accepted[CONTEXT])
        answers = [asking.receive(20.0) for _ in range(3)]
        assert [one.message.Status for one in answers if one is not None] == [0xFF00, 0x0000]
        assert not asking.is_alive()
        assert asking.ending == "aborted the association"


def test_a_release_is_answered_even_if_the_peer_releases_at_the_same_time() -> None:
    released: list[int] = []

    def script(caller: Caller) -> None:
        caller.accept()
        kind, _ = caller.read_pdu()
        released.append(kind)
        caller.send(pdu(PduType.A_RELEASE_RQ, bytes(4)))
        kind, _ = caller.read_pdu()
        released.append(kind)
        caller.send(pdu(PduType.A_RELEASE_RP, bytes(4)))

    with Acceptor(script) as acceptor:
        asking = requestor(acceptor.port)
        asking.release()
        assert asking.ending == "released the association"
    assert released == [PduType.A_RELEASE_RQ, PduType.A_RELEASE_RP]


def test_a_release_that_nobody_answers_is_an_abort() -> None:
    seen: list[int] = []

    def script(caller: Caller) -> None:
        caller.accept()
        for _ in range(2):
            seen.append(caller.read_pdu()[0])

    with Acceptor(script) as acceptor:
        requestor(acceptor.port, 0.5).release()
    assert seen == [PduType.A_RELEASE_RQ, PduType.A_ABORT]


def test_a_peer_that_releases_while_nothing_is_asked_is_gone_then() -> None:
    def script(caller: Caller) -> None:
        caller.accept()
        caller.send(pdu(PduType.A_RELEASE_RQ, bytes(4)))
        assert caller.read_pdu()[0] == PduType.A_RELEASE_RP

    with Acceptor(script) as acceptor:
        asking = requestor(acceptor.port)
        assert asking.receive(20.0) is None
        assert not asking.is_alive()
        assert asking.echo() is None


@pytest.mark.parametrize("host", ["127.0.0.1", "no..name", "x" * 300])
def test_a_host_that_is_not_there_or_is_no_name_cannot_be_reached(
    host: str, free_port: int
) -> None:
    with pytest.raises(PeerUnreachable, match="cannot be reached"):
        Requestor(host, free_port)


def test_more_contexts_than_fit_are_our_own_mistake() -> None:
    contexts = [(f"1.2.{number}", IMPLICIT) for number in range(CONTEXTS_MAX + 1)]
    with pytest.raises(InvariantBroken):
        Requestor("127.0.0.1", 1, contexts)
