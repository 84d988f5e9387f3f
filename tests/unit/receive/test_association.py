"""One association from its request to its end: what is answered and noted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dicom_node.errors import ProtocolBroken
from dicom_node.harness.answers import Aborted, Data, Rejected, Released, parse_command_set
from dicom_node.harness.pdu import (
    abort,
    associate_rq,
    c_echo_rq,
    c_store_rq,
    command_set,
    p_data,
    pdv,
    release_rq,
    ui,
    us,
)
from dicom_node.ledger.arrivals import AssociationClosed, AssociationOpened, NotedEvent
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.model import Instance
from dicom_node.protocol.command import Element, lo
from dicom_node.receive.doorway import Notes
from dicom_node.receive.service import EventReport, ServiceReply, ServiceRequest
from tests.factories import CT_SERIES
from tests.unit.receive.conversation import (
    CONTEXTS,
    CT,
    NOW,
    REQUEST,
    STUDY_ROOT,
    Conversation,
    Hall,
    a_large_data_set,
    a_store,
    command_in,
    established,
    is_empty,
    message,
    pieces,
    reasons,
    statuses,
)
from tests.unit.receive.data_sets import EXPLICIT

SUCCESS = 0x0000
MIB = 1 << 20


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


@pytest.fixture
def talk(hall: Hall) -> Conversation:
    return established(hall)


def events(hall: Hall) -> list[tuple[str, str]]:
    return [(row.subject, row.event) for row in hall.rows(NotedEvent)]


# ------------------------------------------------------------ begin and end


REJECTED_REQUESTS = {
    "a stranger": (associate_rq(CONTEXTS, called="DICOM_NODE", calling="X"), (1, 1, 3), "unknown"),
    "another title": (associate_rq(CONTEXTS, called="OTHER"), (1, 1, 7), "it called OTHER"),
    "another protocol": (
        associate_rq(CONTEXTS, called="DICOM_NODE", protocol_version=2),
        (1, 2, 2),
        "protocol version",
    ),
    "another application": (
        associate_rq(CONTEXTS, called="DICOM_NODE", application_context="1.2.3"),
        (1, 1, 2),
        "application context",
    ),
}


@pytest.mark.parametrize("name", REJECTED_REQUESTS)
def test_a_request_is_rejected_with_its_reason(name: str, hall: Hall) -> None:
    request, rejection, words = REJECTED_REQUESTS[name]
    talk = Conversation(hall)
    talk.feed(request, message(1, c_echo_rq()))
    assert talk.answers() == [Rejected(*rejection)]
    assert talk.is_over
    [(_, event)] = events(hall)
    assert event == "REJECTED"
    assert words in reasons(hall)[0]


def test_of_a_stranger_the_items_are_not_read(hall: Hall) -> None:
    """He could send a quarter of a million of them, which takes a while."""
    talk = Conversation(hall)
    talk.feed(associate_rq([], called="DICOM_NODE", calling="X", user_items=[b"no item"]))
    assert talk.answers() == [Rejected(1, 1, 3)]


def test_an_association_that_carries_nothing_leaves_no_row(hall: Hall) -> None:
    talk = established(hall)
    talk.feed(message(1, c_echo_rq()))
    assert statuses(talk) == [SUCCESS]
    talk.feed(release_rq())
    assert talk.answers() == [Released()]
    assert talk.is_over
    assert hall.kept == []


def test_its_begin_and_its_end_stand_around_what_it_carried(talk: Conversation, hall: Hall) -> None:
    talk.feed(a_store(1), a_store(2), release_rq())
    opened, first, second, closed = [kept.row for kept in hall.kept]
    assert isinstance(opened, AssociationOpened)
    assert opened == AssociationOpened(
        opened.association_id, "SCANNER", "DICOM_NODE", "127.0.0.1", NOW
    )
    assert isinstance(first, Instance)
    assert isinstance(second, Instance)
    assert first.association_id == second.association_id == opened.association_id
    assert closed == AssociationClosed(opened.association_id, AssociationEnd.RELEASED, NOW)


ENDS: dict[str, tuple[Callable[[Conversation], None], AssociationEnd, list[str]]] = {
    "release": (lambda talk: talk.feed(release_rq()), AssociationEnd.RELEASED, []),
    "abort": (lambda talk: talk.feed(abort()), AssociationEnd.ABORTED, ["ABORTED"]),
    "gone": (lambda talk: talk.close(), AssociationEnd.LOST, ["LOST"]),
    "broken": (lambda talk: talk.feed(b"\x09\0\0\0\0\0"), AssociationEnd.ABORTED, ["BROKEN"]),
}


@pytest.mark.parametrize("name", ENDS)
@pytest.mark.parametrize("before", [b"", a_store()], ids=["at once", "behind a store"])
def test_every_end_is_noted_once(name: str, before: bytes, hall: Hall) -> None:
    act, end, noted = ENDS[name]
    talk = established(hall)
    talk.feed(before)
    act(talk)
    talk.close()
    assert [event for _, event in events(hall)] == noted
    assert [row.end for row in hall.rows(AssociationClosed)] == ([end] if before else [])
    assert is_empty(hall)


@pytest.mark.parametrize("act", [abort(), b"\x09\0\0\0\0\0", b""])
@pytest.mark.parametrize("size", [300, 20_000, 6 * MIB])
def test_what_came_half_is_forgotten(act: bytes, size: int, hall: Hall) -> None:
    talk = established(hall)
    half = message(3, c_store_rq(CT, f"{CT_SERIES}.1"), a_large_data_set(8 * MIB))
    whole_pdus = 0
    while whole_pdus < size:
        whole_pdus += 6 + int.from_bytes(half[whole_pdus + 2 : whole_pdus + 6], "big")
    talk.feed(*pieces(half[:whole_pdus]), act)
    talk.close()
    assert hall.rows(Instance) == []
    assert is_empty(hall)


def test_a_release_in_the_middle_of_a_message_breaks_off(talk: Conversation, hall: Hall) -> None:
    talk.feed(message(3, c_store_rq(CT, "1.2.3")), release_rq())
    assert isinstance(talk.broken, ProtocolBroken)
    assert [isinstance(answer, Aborted) for answer in talk.answers()] == [True]
    assert is_empty(hall)


# ------------------------------------------------------------ limits


def test_beyond_the_limit_an_association_is_rejected_until_another_ends(tmp_path: Path) -> None:
    hall = Hall(tmp_path, associations_max=2)
    first = established(hall)
    established(hall)
    third = Conversation(hall)
    third.feed(REQUEST)
    assert third.answers() == [Rejected(2, 3, 2)]  # transient: it may try again
    assert "receive.associations_max" in reasons(hall)[0]
    first.feed(release_rq())
    established(hall)


def test_one_peer_cannot_take_all_associations(tmp_path: Path) -> None:
    hall = Hall(tmp_path, associations_per_peer_max=1, admit_unknown_calling_ae_titles=True)
    first = established(hall)
    second = Conversation(hall)
    second.feed(REQUEST)
    assert second.answers() == [Rejected(2, 3, 2)]
    assert "receive.associations_per_peer_max" in reasons(hall)[0]
    established(hall, associate_rq(CONTEXTS, called="DICOM_NODE", calling="CT2"))
    first.close()
    established(hall)


@pytest.mark.parametrize("act", [abort(), b"\x09\0\0\0\0\0", b""])
def test_every_end_makes_room_for_the_next(act: bytes, tmp_path: Path) -> None:
    hall = Hall(tmp_path, associations_max=1)
    for _ in range(3):
        talk = established(hall)
        talk.feed(act)
        talk.close()


# ------------------------------------------------------------ what no honest peer sends

ECHO = message(1, c_echo_rq())
STORE_COMMAND = p_data(pdv(3, 0x03, c_store_rq(CT, "1.2.3")))
DATA_FRAGMENT = p_data(pdv(3, 0x00, b"data"))
BROKEN = {
    "data without a command": DATA_FRAGMENT,
    "data of another context": STORE_COMMAND + p_data(pdv(5, 0x00, b"data")),
    "a command in the middle of data": STORE_COMMAND + DATA_FRAGMENT + ECHO,
    "a command instead of data": STORE_COMMAND + STORE_COMMAND,
    "a context that was not accepted": p_data(pdv(7, 0x03, c_echo_rq())),
    "a command in two contexts": p_data(pdv(1, 0x01, c_echo_rq()[:20]))
    + p_data(pdv(3, 0x03, c_echo_rq()[20:])),
    "no command set": p_data(pdv(1, 0x03, b"nonsense")),
    "an empty command": p_data(pdv(1, 0x03, b"")),
    "data behind its end": STORE_COMMAND + p_data(pdv(3, 0x02, b"data")) + DATA_FRAGMENT,
    "an endless command": p_data(pdv(1, 0x01, bytes(60_000))) * 2,
}


@pytest.mark.parametrize("name", BROKEN)
def test_it_is_aborted_with_a_reason(name: str, hall: Hall, talk: Conversation) -> None:
    talk.feed(BROKEN[name], ECHO)
    assert talk.broken is not None
    assert isinstance(talk.answers()[-1], Aborted)
    assert ("SCANNER", "BROKEN") in events(hall)
    assert talk.broken.message in reasons(hall)
    assert is_empty(hall)


# ------------------------------------------------------------ other services

FIND = command_set(
    [
        (Element.AFFECTED_SOP_CLASS_UID, ui(STUDY_ROOT)),
        (Element.COMMAND_FIELD, us(0x0020)),
        (Element.MESSAGE_ID, us(7)),
        (Element.PRIORITY, us(0)),
        (Element.COMMAND_DATA_SET_TYPE, us(1)),
    ]
)
CANCEL = command_set(
    [
        (Element.COMMAND_FIELD, us(0x0FFF)),
        (Element.MESSAGE_ID_BEING_RESPONDED_TO, us(7)),
        (Element.COMMAND_DATA_SET_TYPE, us(0x0101)),
    ]
)


def test_a_service_gets_the_request_whole_and_its_replies_are_sent_in_order(
    tmp_path: Path,
) -> None:
    seen: list[ServiceRequest] = []

    def find(request: ServiceRequest) -> Iterator[ServiceReply]:
        seen.append(request)
        yield ServiceReply(0xFF00, b"first ")
        yield ServiceReply(0xFF00, b"x" * 50_000)
        yield ServiceReply(0x0000, fields={Element.ERROR_COMMENT: lo("done")})

    hall = Hall(tmp_path, services={STUDY_ROOT: find})
    talk = established(hall)
    talk.feed(p_data(pdv(5, 0x03, FIND)), p_data(pdv(5, 0, b"iden")), p_data(pdv(5, 2, b"tifier")))
    [request] = seen
    assert request.data_set == b"identifier"
    assert (request.calling_ae_title, request.sop_class_uid) == ("SCANNER", STUDY_ROOT)
    assert request.transfer_syntax_uid == EXPLICIT
    pdvs = [pdv for answer in talk.answers() if isinstance(answer, Data) for pdv in answer.pdvs]
    commands = [parse_command_set(pdv.fragment) for pdv in pdvs if pdv.header & 1]
    assert [command[Element.STATUS] for command in commands] == [us(0xFF00)] * 2 + [us(0)]
    assert [command[Element.MESSAGE_ID_BEING_RESPONDED_TO] for command in commands] == [us(7)] * 3
    assert b"".join(pdv.fragment for pdv in pdvs if not pdv.header & 1) == b"first " + b"x" * 50_000
    assert all(len(pdv.fragment) + 6 <= 16384 for pdv in pdvs)  # what the requestor takes
    [opened] = [kept.row for kept in hall.kept]
    assert isinstance(opened, AssociationOpened)


def test_a_service_hears_of_a_cancel(tmp_path: Path) -> None:
    cancelled: list[bool] = []

    def find(request: ServiceRequest) -> Iterator[ServiceReply]:
        cancelled.append(request.cancelled())
        yield ServiceReply(0xFE00 if request.cancelled() else 0x0000)

    talk = established(Hall(tmp_path, services={STUDY_ROOT: find}))
    asked = message(5, FIND, b"identifier")
    talk.feed(asked + message(5, CANCEL), asked)
    assert cancelled == [True, False]  # a message ID that comes again is another request
    assert statuses(talk) == [0xFE00, 0x0000]


@pytest.mark.parametrize(
    ("context_id", "field", "status"),
    [
        (1, 0x0020, 0x0211),  # C-FIND of Verification
        (3, 0x0020, 0x0122),  # C-FIND of a storage SOP Class
        (3, 0x0150, 0x0122),
    ],
)
def test_what_nobody_answers_is_answered_with_a_status(
    context_id: int, field: int, status: int, talk: Conversation
) -> None:
    command = command_set(
        [
            (Element.AFFECTED_SOP_CLASS_UID, ui(CT)),
            (Element.COMMAND_FIELD, us(field)),
            (Element.MESSAGE_ID, us(9)),
            (Element.COMMAND_DATA_SET_TYPE, us(0x0101)),
        ]
    )
    talk.feed(message(context_id, command))
    [answer] = [command_in(answer) for answer in talk.answers()]
    assert answer[Element.STATUS] == us(status)
    assert answer[Element.COMMAND_FIELD] == us(field | 0x8000)


@pytest.mark.parametrize("answer", [0x0000, 0x0110, None])
def test_a_report_is_told_its_answer_or_that_none_came(answer: int | None, tmp_path: Path) -> None:
    told: list[int | None] = []

    def act(request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        yield ServiceReply(0x0000)
        yield EventReport(STUDY_ROOT, "1.2.3", 1, b"report", told.append)

    talk = established(Hall(tmp_path, services={STUDY_ROOT: act}))
    talk.feed(message(5, FIND, b"identifier"))
    _, report, data = talk.answers()
    command = command_in(report)
    assert command[Element.COMMAND_FIELD] == us(0x0100)
    assert command[Element.EVENT_TYPE_ID] == us(1)
    assert isinstance(data, Data)
    assert [pdv.fragment for pdv in data.pdvs] == [b"report"]
    if answer is None:
        talk.feed(release_rq())
    else:
        said = command_set(
            [
                (Element.COMMAND_FIELD, us(0x8100)),
                (Element.MESSAGE_ID_BEING_RESPONDED_TO, command[Element.MESSAGE_ID]),
                (Element.COMMAND_DATA_SET_TYPE, us(0x0101)),
                (Element.STATUS, us(answer)),
            ]
        )
        talk.feed(message(5, said), message(5, said), release_rq())
    talk.close()
    assert told == [answer]


# ------------------------------------------------------------ notes


def test_a_flood_of_equal_events_is_cut_off_for_a_while() -> None:
    now = [0.0]
    notes = Notes(lambda: now[0])
    wanted = [notes.wanted("REJECTED", "X", "unknown") for _ in range(100)]
    assert wanted == [True] * 20 + [False] * 80
    assert notes.wanted("REJECTED", "Y", "unknown")
    now[0] = 61.0
    assert notes.wanted("REJECTED", "X", "unknown")


def test_a_flood_of_different_events_is_not_remembered_for_ever() -> None:
    notes = Notes(lambda: 0.0)
    for number in range(5000):
        assert notes.wanted("REJECTED", f"X{number}", "unknown")
    assert notes.wanted("REJECTED", "X0", "unknown")
