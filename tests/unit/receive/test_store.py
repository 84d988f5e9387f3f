"""C-STORE on an association: what is kept, when it is answered, what is refused and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dicom_node.harness.answers import Released
from dicom_node.harness.pdu import VERIFICATION, c_echo_rq, c_store_rq, release_rq, us
from dicom_node.ledger.arrivals import NotedEvent
from dicom_node.model import Instance
from dicom_node.protocol.command import Element
from dicom_node.store.record import digest_of
from tests.factories import CT_SERIES, STUDY, make_instance
from tests.unit.receive.conversation import (
    CT,
    NOW,
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
from tests.unit.receive.data_sets import DATA, EXPLICIT, encoded

MIB = 1 << 20

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
DOES_NOT_MATCH = 0xA900
CANNOT_UNDERSTAND = 0xC000


@pytest.fixture
def hall(tmp_path: Path) -> Hall:
    return Hall(tmp_path)


@pytest.fixture
def talk(hall: Hall) -> Conversation:
    return established(hall)


def changes(keyword: str, uid: str) -> dict[str, Any]:
    return {keyword: uid}


# ------------------------------------------------------------ what is kept


def test_an_instance_is_kept_as_it_came(talk: Conversation, hall: Hall) -> None:
    data_set = encoded(make_instance(), EXPLICIT)
    talk.feed(a_store())
    assert statuses(talk) == [SUCCESS]
    [row] = hall.rows(Instance)
    [kept] = [kept for kept in hall.kept if kept.row is row]
    assert kept.data_set == data_set
    assert kept.part10[128:132] == b"DICM"
    assert row.digest == digest_of(data_set).hex()
    assert row.size_bytes == len(kept.part10)
    assert (row.sop_class_uid, row.sop_instance_uid) == (CT, f"{CT_SERIES}.1")
    assert (row.study_instance_uid, row.series_instance_uid) == (STUDY, CT_SERIES)
    assert (row.transfer_syntax_uid, row.calling_ae_title) == (EXPLICIT, "SCANNER")
    assert row.received_at == NOW
    assert is_empty(hall)


def test_a_large_instance_is_in_its_file_before_the_log_names_it(
    talk: Conversation, hall: Hall
) -> None:
    data_set = a_large_data_set()
    talk.feed(*pieces(message(3, c_store_rq(CT, f"{CT_SERIES}.1"), data_set)))
    assert statuses(talk) == [SUCCESS]
    [row] = hall.rows(Instance)
    kept = hall.store.file(row.path).read_bytes()
    assert kept.endswith(data_set)
    assert len(kept) == row.size_bytes
    assert row.digest == digest_of(data_set).hex()
    assert row.path.startswith("instances/")
    assert is_empty(hall)


def test_success_is_answered_only_when_the_log_has_it(tmp_path: Path) -> None:
    hall = Hall(tmp_path, is_log_slow=True)
    talk = established(hall)
    talk.feed(a_store())
    assert talk.answers() == []
    hall.write_log()
    assert statuses(talk) == [SUCCESS]


def test_a_release_is_answered_behind_the_answers(tmp_path: Path) -> None:
    hall = Hall(tmp_path, is_log_slow=True)
    talk = established(hall)
    talk.feed(a_store(1), a_store(2), release_rq())
    assert talk.answers() == []
    assert not talk.is_over
    hall.write_log()
    *stored, released = talk.answers()
    assert len(stored) == 2
    assert released == Released()
    assert talk.is_over


def test_who_sends_without_waiting_is_not_read_any_more(tmp_path: Path) -> None:
    hall = Hall(tmp_path, is_log_slow=True)
    talk = established(hall)
    for number in (1, 2, 3):
        talk.feed(a_store(number, message_id=number))
    before = talk.line.is_held
    talk.feed(a_store(4, message_id=4))
    assert (before, talk.line.is_held) == (False, True)
    hall.write_log()
    assert not talk.line.is_held
    answered = [command_in(a)[Element.MESSAGE_ID_BEING_RESPONDED_TO] for a in talk.answers()]
    assert answered == [us(number) for number in (1, 2, 3, 4)]


def test_what_the_log_cannot_write_is_refused(talk: Conversation, hall: Hall) -> None:
    hall.log_error = OSError(28, "No space left on device")
    talk.feed(a_store(1))
    hall.log_error = None
    talk.feed(a_store(2))
    assert statuses(talk) == [OUT_OF_RESOURCES, SUCCESS]
    assert [row.sop_instance_uid for row in hall.rows(Instance)] == [f"{CT_SERIES}.2"]
    assert is_empty(hall)


def test_an_answer_that_comes_too_late_is_dropped(tmp_path: Path) -> None:
    hall = Hall(tmp_path, is_log_slow=True)
    talk = established(hall)
    talk.feed(a_store())
    talk.close()
    hall.write_log()
    assert talk.answers() == []
    assert len(hall.rows(Instance)) == 1  # durable all the same
    assert is_empty(hall)


# ------------------------------------------------------------ what cannot be taken

LEADING_OUT = ["../../../../tmp/x", "/etc/passwd", "1.2.3\\..\\4", "1.2.3/4", "..", "1.2.3 4"]

REFUSED: list[tuple[bytes, int, str]] = [
    (a_store(StudyInstanceUID=None), CANNOT_UNDERSTAND, "Study Instance UID is missing"),
    (a_store(SeriesInstanceUID=""), CANNOT_UNDERSTAND, "Series Instance UID is missing"),
    (a_store(SOPInstanceUID=None), CANNOT_UNDERSTAND, "SOP Instance UID is missing"),
    (a_store(StudyInstanceUID=["1.2", "1.3"]), CANNOT_UNDERSTAND, "Study Instance UID is no UID"),
    *[
        (a_store(**changes(keyword, uid)), CANNOT_UNDERSTAND, "is no UID")
        for uid in LEADING_OUT
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ],
    (a_store(SOPInstanceUID="1.2.3.4.5"), DOES_NOT_MATCH, "SOP Instance UIDs of command and data"),
    (a_store(SOPClassUID="1.2.3.4.5"), DOES_NOT_MATCH, "SOP Class UIDs of command and data"),
    (message(3, c_store_rq(CT, "1.2.3"), b""), CANNOT_UNDERSTAND, "is missing"),
    (message(3, c_store_rq(CT, "1.2.3"), b"no DICOM"), CANNOT_UNDERSTAND, ""),
    *[
        (message(3, c_store_rq(CT, uid), b"data"), DOES_NOT_MATCH, "SOP Instance UID is no UID")
        for uid in ("", "None", "../../x")
    ],
    (message(3, c_store_rq("1.2.3", "1.2.3"), b"data"), DOES_NOT_MATCH, "presentation context"),
    (message(1, c_store_rq(VERIFICATION, "1.2"), b"data"), DOES_NOT_MATCH, "presentation context"),
    (message(3, c_store_rq(CT, "1.2", data_set_type=0x0101)), CANNOT_UNDERSTAND, "no data set"),
]


@pytest.mark.parametrize(
    ("sent", "status", "words"), REFUSED, ids=[f"{number}" for number in range(len(REFUSED))]
)
def test_an_instance_is_refused_with_its_reason_and_the_next_one_is_taken(
    sent: bytes, status: int, words: str, hall: Hall, talk: Conversation
) -> None:
    talk.feed(sent, a_store(2))
    refused, stored = [command_in(answer) for answer in talk.answers()]
    assert refused[Element.STATUS] == us(status)
    assert stored[Element.STATUS] == us(SUCCESS)
    event, of_association = hall.rows(NotedEvent)
    assert (event.subject_kind, event.event) == ("instance", "REFUSED")
    assert (of_association.subject_kind, of_association.event, of_association.reason) == (
        "association",
        "INSTANCE_REFUSED",
        event.subject,
    )
    assert words in event.reason
    assert refused[Element.ERROR_COMMENT].strip() == event.reason[:64].encode().strip()
    assert [row.sop_instance_uid for row in hall.rows(Instance)] == [f"{CT_SERIES}.2"]
    assert is_empty(hall)


@pytest.mark.parametrize("name", ["blank-uids-ct-j2k-1.dcm", "blank-uids-ct-j2k-2.dcm"])
def test_blank_uids_are_refused(name: str, hall: Hall) -> None:
    content = (DATA / "malformed" / name).read_bytes()
    assert content[132:140] == b"\2\0\0\0UL\4\0"
    data_set = content[144 + int.from_bytes(content[140:144], "little") :]
    talk = established(hall)
    talk.feed(*pieces(message(3, c_store_rq(CT, "1.2.3"), data_set)))
    assert statuses(talk)[0] in {CANNOT_UNDERSTAND, DOES_NOT_MATCH}
    assert hall.rows(Instance) == []


def test_a_refusal_says_nothing_of_the_patient(talk: Conversation, hall: Hall) -> None:
    talk.feed(a_store(PatientName="Secret^Person", PatientID="SECRET-1", StudyInstanceUID="Secret"))
    assert reasons(hall)
    said = bytes(talk.line.sent).lower() + repr([kept.row for kept in hall.kept]).encode().lower()
    assert b"secret" not in said


def test_with_too_little_room_the_sender_keeps_its_copy(tmp_path: Path) -> None:
    hall = Hall(tmp_path, free_bytes_min=1 << 60)
    talk = established(hall)
    talk.feed(a_store(), message(1, c_echo_rq()))
    assert statuses(talk) == [OUT_OF_RESOURCES, SUCCESS]
    assert "receive.free_bytes_min" in reasons(hall)[0]
    assert hall.rows(Instance) == []


@pytest.mark.parametrize("size", [100_000, 5 * MIB])
def test_an_instance_that_is_too_large_is_refused_and_its_memory_let_go_at_once(
    size: int, tmp_path: Path
) -> None:
    hall = Hall(tmp_path, instance_bytes_max=size - 1)
    talk = established(hall)
    data_set = a_large_data_set(size)
    sent = list(pieces(message(3, c_store_rq(CT, f"{CT_SERIES}.1"), data_set)))
    talk.feed(*sent)
    assert statuses(talk) == [OUT_OF_RESOURCES]
    assert "receive.instance_bytes_max" in reasons(hall)[0]
    assert is_empty(hall)
    talk.feed(a_store(2))
    assert statuses(talk) == [SUCCESS]


def test_of_a_refused_instance_nothing_more_is_kept_in_memory(tmp_path: Path) -> None:
    hall = Hall(tmp_path, instance_bytes_max=1000)
    talk = established(hall)
    sent = message(3, c_store_rq(CT, f"{CT_SERIES}.1"), a_large_data_set(3 * MIB))
    for piece in list(pieces(sent))[:-1]:
        talk.feed(piece)
        assert hall.pool.out <= 1
    assert hall.pool.out == 0


# ------------------------------------------------------------ other bytes under known UIDs


def test_where_the_site_wants_it_other_bytes_under_known_uids_are_refused(tmp_path: Path) -> None:
    known = {f"{CT_SERIES}.1": digest_of(encoded(make_instance(), EXPLICIT)).hex()}
    hall = Hall(tmp_path, known_digest=lambda identity: known.get(identity.sop_instance_uid))
    talk = established(hall)
    talk.feed(a_store(SeriesDescription="changed"), a_store())
    assert statuses(talk) == [CANNOT_UNDERSTAND, SUCCESS]
    assert "another data set is kept" in reasons(hall)[0]


def test_what_the_ledger_does_not_know_yet_is_remembered(tmp_path: Path) -> None:
    hall = Hall(tmp_path, known_digest=lambda identity: None)
    one, other = established(hall), established(hall)
    one.feed(a_store())
    other.feed(a_store(SeriesDescription="changed"), a_store())
    assert statuses(one) == [SUCCESS]
    assert statuses(other) == [CANNOT_UNDERSTAND, SUCCESS]
