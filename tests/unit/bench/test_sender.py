"""The benchmark's sender says what it should: pynetdicom reads it, and an archive keeps it."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from pynetdicom.pdu_primitives import P_DATA

from dicom_node.harness.archive import Archive
from dicom_node.harness.faults import FailingArchive
from tests.bench.association import request_for
from tests.bench.loads import Load, load, series_uid, sop_uid, study_uid, write_files
from tests.bench.sender import Instance, StoreJob, send

ROOT = "1.2.826.0.1.3680043.10.1714.9"
STUDY, SERIES, SOP_INSTANCE = f"{ROOT}.1.1003", f"{ROOT}.2.1003.1", f"{ROOT}.3.1003.1000041"
PDU_BYTES_MAX = 16384


@pytest.fixture(scope="module")
def mr() -> Load:
    return load("mr")


@pytest.fixture
def pdus(mr: Load) -> list[bytes]:
    """Return the PDUs of instance 41 of association 3, which was instance 40 before."""
    instance = Instance(mr, 3, PDU_BYTES_MAX)
    instance.number(40, 7)
    instance.number(41, 300)
    assert b"".join(instance.whole) == b"".join(instance.pdus)
    return [bytes(pdu) for pdu in instance.pdus]


def split(stream: bytes) -> Iterator[bytes]:
    """Yield the PDUs by the lengths in their headers (PS3.8 9.3.1)."""
    while stream:
        end = 6 + struct.unpack_from(">L", stream, 2)[0]
        yield stream[:end]
        stream = stream[end:]


def test_the_request_proposes_what_it_was_told() -> None:
    request = A_ASSOCIATE_RQ()
    request.decode(
        request_for("DICOM_NODE", [("1.2.3", ["1.2.840.10008.1.2"]), ("1.2.4", ["1.5"])])
    )
    assert (request.called_ae_title, request.calling_ae_title) == ("DICOM_NODE", "SCANNER")
    proposed = [
        (item.context_id, item.abstract_syntax, item.transfer_syntax)
        for item in request.presentation_context
    ]
    assert proposed == [(1, "1.2.3", ["1.2.840.10008.1.2"]), (3, "1.2.4", ["1.5"])]
    assert request.user_information is not None
    assert request.user_information.maximum_length == 131072


def test_the_pdus_are_a_c_store_request_and_its_data_set(mr: Load, pdus: list[bytes]) -> None:
    message = C_STORE_RQ()
    complete = []
    for encoded in pdus:
        pdu = P_DATA_TF()
        pdu.decode(encoded)
        assert pdu.pdu_length <= PDU_BYTES_MAX
        primitive = P_DATA()
        values: list[Any] = [  # pynetdicom says tuples and wants lists
            [item.presentation_context_id, item.presentation_data_value]
            for item in pdu.presentation_data_value_items
        ]
        primitive.presentation_data_value_list = values
        complete.append(message.decode_msg(primitive))
    assert complete == [False] * (len(pdus) - 1) + [True]
    command = message.command_set
    assert command.MessageID == 300
    assert command.AffectedSOPClassUID == "1.2.840.10008.5.1.4.1.1.4"
    assert command.AffectedSOPInstanceUID == SOP_INSTANCE
    assert message.data_set is not None
    data_set = pydicom.dcmread(BytesIO(message.data_set.getvalue()), force=True)
    uids = (data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID)
    assert uids == (STUDY, SERIES, SOP_INSTANCE)
    template = pydicom.dcmread(BytesIO(mr.data_set), force=True)
    assert (data_set.Rows, data_set.Columns) == (128, 128)
    for written in (data_set, template):
        del written.StudyInstanceUID, written.SeriesInstanceUID, written.SOPInstanceUID
    assert data_set == template


def test_each_piece_is_one_pdu(pdus: list[bytes]) -> None:
    assert list(split(b"".join(pdus))) == pdus


@pytest.mark.parametrize("each_pdu", [False, True])
def test_an_archive_keeps_each_instance_byte_for_byte(
    mr: Load, each_pdu: bool, tmp_path: Path
) -> None:
    with Archive(tmp_path) as archive:
        job = StoreJob(archive.port, "ARCHIVE", "mr", 6, associations=2, each_pdu=each_pdu)
        sent = send(job)
        kept = {received.sop_instance_uid: received for received in archive.received()}
    assert sent.failures == []
    assert (sent.instances, sent.size_bytes) == (6, 6 * len(mr.data_set))
    assert len(sent.latencies_s) == 6
    assert all(0 < latency_s <= sent.seconds <= sent.whole_s for latency_s in sent.latencies_s)
    assert len(kept) == 6
    for association in range(2):
        for number in range(3):
            received = kept[sop_uid(association, number)]
            data_set = mr.data_set
            for of in (study_uid, series_uid):
                data_set = data_set.replace(of(0).encode(), of(association).encode())
            data_set = data_set.replace(sop_uid(0, 0).encode(), received.sop_instance_uid.encode())
            assert received.digest == hashlib.sha256(data_set).hexdigest()
            assert received.count == 1


def test_an_answer_other_than_success_is_a_failure(tmp_path: Path) -> None:
    with FailingArchive(tmp_path, every=3) as archive:
        sent = send(StoreJob(archive.port, "ARCHIVE", "mr", 5))
    assert sent.instances == 2
    [failure] = sent.failures
    assert f"status={0xA700}" in failure


def test_uids_of_one_kind_are_all_of_one_length() -> None:
    for uids in (
        {study_uid(0), study_uid(15)},
        {series_uid(0), series_uid(15)},
        {sop_uid(0, 0), sop_uid(15, 99999)},
    ):
        assert len(uids) == 2
        assert len({len(uid) for uid in uids}) == 1
        assert all(len(uid) % 2 == 0 for uid in uids)  # no padding that would have to move


@pytest.mark.parametrize(
    ("name", "kilobytes", "transfer_syntax_uid"),
    [
        ("ct", 527, "1.2.840.10008.1.2.1"),
        ("mr", 34, "1.2.840.10008.1.2.1"),
        ("jpeg-ls", 134, "1.2.840.10008.1.2.4.80"),
        ("jpeg-2000", 148, "1.2.840.10008.1.2.4.90"),
    ],
)
def test_a_load_has_the_size_and_syntax_it_is_known_for(
    name: str, kilobytes: int, transfer_syntax_uid: str
) -> None:
    made = load(name)
    assert len(made.data_set) == pytest.approx(1000 * kilobytes, rel=0.02)
    assert made.transfer_syntax_uid == transfer_syntax_uid


def test_files_for_storescu_are_part_10_files(mr: Load, tmp_path: Path) -> None:
    folders = list(write_files(mr, tmp_path, folders=2, each=2))
    files = [pydicom.dcmread(file) for folder in folders for file in sorted(folder.iterdir())]
    assert [file.SOPInstanceUID for file in files] == [
        sop_uid(association, number) for association in range(2) for number in range(2)
    ]
    for file in files:
        assert file.file_meta.MediaStorageSOPInstanceUID == file.SOPInstanceUID
        assert file.file_meta.TransferSyntaxUID == mr.transfer_syntax_uid
