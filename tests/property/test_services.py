"""Whatever bytes come as a data set: a service answers with a status, and raises nothing."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.tag import Tag

from dicom_node.data_sets import encode
from dicom_node.lifecycle import COMMITMENT_MOVES, CommitmentState
from dicom_node.model import Commitment, ReferencedInstance
from dicom_node.protocol.command import CommandField, us
from dicom_node.receive.availability import INSTANCE_AVAILABILITY_NOTIFICATION, AvailabilityService
from dicom_node.receive.commitment import CommitmentService
from dicom_node.receive.matching import matches, wildcard
from dicom_node.receive.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, ProcedureStepService
from dicom_node.receive.query import QueryService
from dicom_node.receive.query_keys import KEYS, PATIENT_ROOT, STUDY_ROOT
from dicom_node.receive.service import Service
from dicom_node.scu.commitment import STORAGE_COMMITMENT_INSTANCE, STORAGE_COMMITMENT_PUSH_MODEL
from tests.factories import CT_SERIES, STUDY, make_instance, make_xray
from tests.property.test_lifecycle import held_to_the_table
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.receive.data_sets import BIG_ENDIAN, DEFLATED, EXPLICIT, IMPLICIT
from tests.unit.receive.requests import Answer, Archive, a_data_set, a_request, answer

SYNTAXES = st.sampled_from([EXPLICIT, IMPLICIT, BIG_ENDIAN, DEFLATED])
REQUESTS = [
    (STUDY_ROOT, CommandField.C_FIND),
    (PATIENT_ROOT, CommandField.C_FIND),
    (STORAGE_COMMITMENT_PUSH_MODEL, CommandField.N_ACTION),
    (MODALITY_PERFORMED_PROCEDURE_STEP, CommandField.N_CREATE),
    (MODALITY_PERFORMED_PROCEDURE_STEP, CommandField.N_SET),
    (INSTANCE_AVAILABILITY_NOTIFICATION, CommandField.N_CREATE),
]
CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture(scope="module")
def archive() -> Iterator[Archive]:
    with tempfile.TemporaryDirectory() as folder:
        ledger = rows.new_ledger(Path(folder))
        archive = Archive(ledger)
        archive.keep(*(make_instance(number=number) for number in (1, 2)), make_xray())
        yield archive
        ledger.close()


def service_of(archive: Archive, sop_class_uid: str) -> Service:
    ledger, clock = archive.ledger, HandClock()
    query = QueryService(ledger, "US", archive.caught_up, archive.read_header)
    services: dict[str, Service] = {
        STUDY_ROOT: query,
        PATIENT_ROOT: query,
        STORAGE_COMMITMENT_PUSH_MODEL: CommitmentService(
            ledger, archive.caught_up, archive.is_held, clock
        ),
        MODALITY_PERFORMED_PROCEDURE_STEP: ProcedureStepService(ledger, clock),
        INSTANCE_AVAILABILITY_NOTIFICATION: AvailabilityService(ledger, clock),
    }
    return services[sop_class_uid]


def ask(
    archive: Archive, sop_class_uid: str, field: CommandField, data_set: bytes, syntax: str
) -> Answer:
    commitment = sop_class_uid == STORAGE_COMMITMENT_PUSH_MODEL
    request = a_request(
        field,
        sop_class_uid,
        data_set,
        sop_instance_uid=STORAGE_COMMITMENT_INSTANCE if commitment else "1.2.3.99",
        syntax=syntax,
        action_type_id=us(1),
    )
    found = answer(service_of(archive, sop_class_uid), request)
    for report in found.reports:
        report.answered(None)
    return found


def sensible(syntax: str) -> list[bytes]:
    """Return a data set for each service that it takes as it is."""
    reference = a_data_set(ReferencedSOPClassUID=CT, ReferencedSOPInstanceUID=f"{CT_SERIES}.1")
    available = a_data_set(
        ReferencedSOPClassUID=CT,
        ReferencedSOPInstanceUID=f"{CT_SERIES}.1",
        InstanceAvailability="ONLINE",
    )
    whole = a_data_set(
        SpecificCharacterSet=["", "ISO 2022 IR 87"],
        QueryRetrieveLevel="IMAGE",
        PatientID="SYN-1",
        PatientName="山田*",
        StudyInstanceUID=STUDY,
        SeriesInstanceUID=CT_SERIES,
        InstanceNumber=None,
        TransactionUID="1.2.3.77",
        PerformedProcedureStepStatus="IN PROGRESS",
        ScheduledStepAttributesSequence=[a_data_set(StudyInstanceUID=STUDY)],
        ReferencedSOPSequence=[reference],
        ReferencedSeriesSequence=[
            a_data_set(SeriesInstanceUID=CT_SERIES, ReferencedSOPSequence=[available])
        ],
        PerformedSeriesSequence=[
            a_data_set(SeriesInstanceUID=CT_SERIES, ReferencedImageSequence=[reference])
        ],
    )
    return [encode(whole, syntax)]


@pytest.mark.parametrize(("sop_class_uid", "field"), REQUESTS)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(data_set=st.binary(max_size=200), syntax=SYNTAXES)
def test_any_bytes_are_answered(
    archive: Archive, sop_class_uid: str, field: CommandField, data_set: bytes, syntax: str
) -> None:
    found = ask(archive, sop_class_uid, field, data_set, syntax)
    assert found.status != 0xFF00


@pytest.mark.parametrize(("sop_class_uid", "field"), REQUESTS)
@settings(max_examples=80, deadline=None, derandomize=True)
@given(data=st.data(), syntax=SYNTAXES)
def test_a_good_data_set_with_some_bytes_changed_is_answered(
    archive: Archive, sop_class_uid: str, field: CommandField, data: st.DataObject, syntax: str
) -> None:
    [good] = sensible(syntax)
    broken = bytearray(good)
    places = st.integers(0, len(broken) - 1)
    for at in data.draw(st.lists(places, min_size=1, max_size=6)):
        broken[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(broken)) | st.just(len(broken)))
    ask(archive, sop_class_uid, field, bytes(broken[:cut]), syntax)


@pytest.mark.parametrize(("sop_class_uid", "field"), REQUESTS)
def test_the_good_data_set_itself_is_taken(
    archive: Archive, sop_class_uid: str, field: CommandField
) -> None:
    """The test above begins with what the services take, else it would prove little."""
    [good] = sensible(EXPLICIT)
    if field is CommandField.N_SET:  # only what there is can be changed
        ask(archive, sop_class_uid, CommandField.N_CREATE, good, EXPLICIT)
    found = ask(archive, sop_class_uid, field, good, EXPLICIT)
    assert found.status in {0x0000, 0x0111}


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    keys=st.dictionaries(st.sampled_from(sorted(KEYS)), st.binary(max_size=20), max_size=5),
    level=st.sampled_from(["PATIENT", "STUDY", "SERIES", "IMAGE"]),
    root=st.sampled_from([STUDY_ROOT, PATIENT_ROOT]),
)
def test_any_value_of_any_key_is_answered(
    archive: Archive, keys: dict[str, bytes], level: str, root: str
) -> None:
    given = {
        "StudyInstanceUID": STUDY.encode(),
        "SeriesInstanceUID": CT_SERIES.encode(),
        **keys,
        "QueryRetrieveLevel": level.encode(),
    }
    identifier = b"".join(
        struct.pack("<HHL", tag >> 16, tag & 0xFFFF, len(value)) + value
        for tag, value in sorted((int(Tag(keyword)), value) for keyword, value in given.items())
    )
    found = ask(archive, root, CommandField.C_FIND, identifier, IMPLICIT)
    assert found.status in {0x0000, 0xA900, 0xC000}


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    vr=st.sampled_from(["AE", "CS", "DA", "DS", "IS", "LO", "PN", "SH", "TM", "UI", "US"]),
    wanted=st.lists(st.text(max_size=20), max_size=3),
    held=st.lists(st.text(max_size=20), max_size=3),
)
def test_matching_never_raises_and_a_value_matches_itself(
    vr: str, wanted: list[str], held: list[str]
) -> None:
    matches(vr, wanted, held)
    if vr not in {"DA", "TM"}:  # a dash in them makes a range
        assert matches(vr, held, held)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(pattern=st.text("ab*?", max_size=8), text=st.text("ab", max_size=8))
def test_a_wildcard_is_what_it_is_by_its_definition(pattern: str, text: str) -> None:
    def fits(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return fits(pattern[1:], text) or (bool(text) and fits(pattern, text[1:]))
        return bool(text) and pattern[0] in {"?", text[0]} and fits(pattern[1:], text[1:])

    assert wildcard(pattern, text) is fits(pattern, text)


# ---------------------------------------------------------------- commitments and their table

CALLS = (
    "request",
    "acknowledged_at_once",
    "not_acknowledged_at_once",
    "start",
    "acknowledged",
    "postpone",
    "interrupt",
    "give_up",
    "retry",
)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(calls=st.lists(st.tuples(st.sampled_from(CALLS), st.booleans()), max_size=14))
def test_no_sequence_of_calls_breaks_a_commitment(
    archive: Archive, calls: list[tuple[str, bool]]
) -> None:
    """Each call comes from the current attempt, or late from the first one."""
    commitments = archive.ledger.commitments
    reference = [ReferencedInstance(CT, f"{CT_SERIES}.1")]
    transaction_uid = f"1.2.3.{len(commitments.in_states(*CommitmentState)) + 1000}"

    def request(now: float) -> Commitment:
        return commitments.request(transaction_uid, "TABLE", reference, now, now)

    first = request(1000.0)
    attempts = [0]
    for now, (call, late) in enumerate(calls, 1001):
        current = commitments.get(first.commitment_id)
        assert current is not None
        subject = first if late else current
        if call == "request":
            request(now)
        elif call == "start":
            commitments.start([subject], now)
        elif call == "postpone":
            commitments.postpone(subject, "unreachable", now, now)
        elif call == "retry":
            commitments.retry(subject.commitment_id, now)
        else:
            getattr(commitments, call)(subject, "because", now)
        after = commitments.get(first.commitment_id)
        assert after is not None
        attempts.append(after.attempt)
    last = commitments.get(first.commitment_id)
    assert last is not None
    assert attempts == sorted(attempts)
    moves = {(str(s), str(e), str(t)) for (s, e), t in COMMITMENT_MOVES.items()}
    held_to_the_table(archive.ledger, str(first.commitment_id), last.state, moves)
