"""The short way of the bytes: durable first, then the row; as they came; never lost from sight."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.errors import InstanceRefused, StoreFull
from dicom_node.ledger.ledger import Ledger
from dicom_node.ledger.studies import Arrival
from dicom_node.lifecycle import StudyState
from dicom_node.receive.stream import Arriving, InstanceKeeper
from dicom_node.store.local import LocalStore
from tests.factories import CT_SERIES, STUDY, make_instance, write
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

DATA = Path(__file__).parents[2] / "data"
ONE_OF_EACH = sorted((DATA / "transfer-syntaxes").glob("*.dcm"))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    yield ledger
    ledger.close()


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "data")


@pytest.fixture
def keeper(ledger: Ledger, store: LocalStore) -> InstanceKeeper:
    return InstanceKeeper(store, ledger, HandClock())


@pytest.fixture
def send(tmp_path: Path) -> Callable[..., Arriving]:
    """Return a function: a data set as the network would hand it over."""

    def arriving(**changes: Any) -> Arriving:
        return arriving_from(write(make_instance(**changes), tmp_path / "sent" / "one.dcm"))

    return arriving


def data_set_of(file: Path) -> bytes:
    """Return what follows the File Meta Information, by its group length (PS3.10 7.1)."""
    content = file.read_bytes()
    assert content[128:132] == b"DICM"
    tag, vr, length = content[132:136], content[136:138], content[138:140]
    assert (tag, vr, length) == (b"\x02\x00\x00\x00", b"UL", b"\x04\x00")
    (group_length,) = struct.unpack("<L", content[140:144])
    return content[144 + group_length :]


def arriving_from(file: Path) -> Arriving:
    meta = pydicom.filereader.read_file_meta_info(str(file))
    return Arriving(
        sop_class_uid=str(meta.MediaStorageSOPClassUID),
        sop_instance_uid=str(meta.MediaStorageSOPInstanceUID),
        transfer_syntax_uid=str(meta.TransferSyntaxUID),
        data_set=data_set_of(file),
        association_id=rows.ASSOCIATION,
        calling_ae_title="SCANNER",
    )


Send = Callable[..., Arriving]


def files_in(store: LocalStore) -> list[Path]:
    return sorted(path for path in store.root.rglob("*") if path.is_file())


# ---------------------------------------------------------------- durable, then the row


def test_bytes_are_durable_before_the_row_and_the_row_before_the_answer(
    tmp_path: Path, ledger: Ledger, send: Send
) -> None:
    passed: list[tuple[str, int, int]] = []

    def look(name: str) -> None:
        final = list((tmp_path / "data" / "instances").rglob("*.dcm"))
        passed.append((name, len(final), len(ledger.studies.instances(STUDY))))

    store = LocalStore(tmp_path / "data", checkpoint=look)
    InstanceKeeper(store, ledger, HandClock(), checkpoint=look).keep(send())
    assert passed == [
        ("store.written", 0, 0),
        ("store.synced", 0, 0),
        ("store.renamed", 1, 0),
        ("store.saved", 1, 0),
        ("receive.recorded", 1, 1),
    ]


@pytest.mark.parametrize("beat", ["store.written", "store.synced", "store.renamed", "store.saved"])
def test_whatever_stops_us_before_the_row_leaves_no_row(
    beat: str, tmp_path: Path, ledger: Ledger, send: Send
) -> None:
    def stop(name: str) -> None:
        if name == beat:
            raise KeyboardInterrupt

    store = LocalStore(tmp_path / "data", checkpoint=stop)
    with pytest.raises(KeyboardInterrupt):
        InstanceKeeper(store, ledger, HandClock()).keep(send())
    assert ledger.studies.instances(STUDY) == []
    assert list((tmp_path / "data" / "incoming").iterdir()) == []


# ---------------------------------------------------------------- as they came


def test_there_are_files_in_thirteen_transfer_syntaxes() -> None:
    assert len({arriving_from(file).transfer_syntax_uid for file in ONE_OF_EACH}) == 13


@pytest.mark.parametrize("file", ONE_OF_EACH, ids=lambda file: file.stem.split("_")[1])
def test_the_data_set_is_kept_as_it_was_sent(
    file: Path, keeper: InstanceKeeper, store: LocalStore, ledger: Ledger
) -> None:
    sent = arriving_from(file)
    assert keeper.keep(sent) is Arrival.NEW
    study = str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)
    [row] = ledger.studies.instances(study)
    kept = store.path(row.path)
    assert data_set_of(kept) == sent.data_set
    assert kept.stat().st_size == row.size_bytes
    assert row.digest == hashlib.sha256(sent.data_set).hexdigest()
    assert row.transfer_syntax_uid == sent.transfer_syntax_uid
    assert (row.sop_class_uid, row.sop_instance_uid) == (sent.sop_class_uid, sent.sop_instance_uid)
    assert (row.association_id, row.calling_ae_title) == (rows.ASSOCIATION, "SCANNER")


def test_file_meta_says_what_the_network_said(
    keeper: InstanceKeeper, store: LocalStore, send: Send
) -> None:
    keeper.keep(send())
    [kept] = files_in(store)
    meta = pydicom.dcmread(kept).file_meta
    assert meta.MediaStorageSOPInstanceUID == f"{CT_SERIES}.1"
    assert meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
    assert meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert meta.SourceApplicationEntityTitle == "SCANNER"
    assert meta.FileMetaInformationVersion == b"\0\1"
    assert meta.ImplementationClassUID.startswith("2.25.")


def test_what_follows_the_uids_is_not_even_looked_at(
    keeper: InstanceKeeper, store: LocalStore, send: Send
) -> None:
    sent = send()
    cut = replace(sent, data_set=sent.data_set[:-5000])  # the end of the pixels is missing
    assert keeper.keep(cut) is Arrival.NEW
    [kept] = files_in(store)
    assert data_set_of(kept) == cut.data_set


# ---------------------------------------------------------------- again


def test_the_same_again_is_a_repeat_without_a_new_row(
    keeper: InstanceKeeper, ledger: Ledger, store: LocalStore, send: Send
) -> None:
    assert keeper.keep(send()) is Arrival.NEW
    before = ledger.studies.instances(STUDY)
    assert keeper.keep(send()) is Arrival.REPEATED
    assert ledger.studies.instances(STUDY) == before
    assert len(files_in(store)) == 1
    [event] = ledger.events.of(f"{CT_SERIES}.1")
    assert (event.event, event.reason) == ("REPEATED", "received again, unchanged")


def test_the_same_again_does_not_reopen_a_study_that_was_complete(
    keeper: InstanceKeeper, ledger: Ledger, send: Send
) -> None:
    keeper.keep(send())
    [evidence] = ledger.studies.receiving()
    ledger.studies.completed(evidence, "quiet", 2000.0)
    assert keeper.keep(send()) is Arrival.REPEATED
    study = rows.study_of(ledger, STUDY)
    assert (study.state, study.revision) == (StudyState.COMPLETE, 1)


def test_other_bytes_under_the_same_uid_replace_the_row_and_keep_the_first_file(
    keeper: InstanceKeeper, ledger: Ledger, store: LocalStore, send: Send
) -> None:
    keeper.keep(send())
    [first] = ledger.studies.instances(STUDY)
    [evidence] = ledger.studies.receiving()
    ledger.studies.completed(evidence, "quiet", 2000.0)
    other = send(SeriesDescription="corrected")
    assert keeper.keep(other) is Arrival.REPLACED
    [second] = ledger.studies.instances(STUDY)
    assert second.digest == hashlib.sha256(other.data_set).hexdigest()
    assert second.path != first.path
    assert store.path(first.path).exists()
    assert data_set_of(store.path(second.path)) == other.data_set
    study = rows.study_of(ledger, STUDY)
    assert (study.state, study.revision) == (StudyState.RECEIVING, 2)
    [event] = ledger.events.of(f"{CT_SERIES}.1")
    assert event.event == "REPLACED"
    assert first.path in event.reason


# ---------------------------------------------------------------- what cannot be taken


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"StudyInstanceUID": None}, "the data set's Study Instance UID is missing"),
        ({"SeriesInstanceUID": ""}, "the data set's Series Instance UID is missing"),
        ({"StudyInstanceUID": ["1.2.3", "1.2.4"]}, "the data set's Study Instance UID is no UID"),
    ],
)
def test_an_instance_without_its_uids_is_refused(
    changes: dict[str, Any],
    reason: str,
    keeper: InstanceKeeper,
    store: LocalStore,
    ledger: Ledger,
    send: Send,
) -> None:
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(send(**changes))
    assert caught.value.status == 0xC000
    assert caught.value.message == reason
    assert files_in(store) == []
    assert ledger.studies.instances(STUDY) == []


@pytest.mark.parametrize("name", ["blank-uids-ct-j2k-1.dcm", "blank-uids-ct-j2k-2.dcm"])
def test_blank_uids_are_refused(name: str, keeper: InstanceKeeper) -> None:
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(arriving_from(DATA / "malformed" / name))
    assert caught.value.status == 0xC000


@pytest.mark.parametrize(
    "uid", ["../../../../tmp/x", "/etc/passwd", "1.2.3\\..\\4", "1.2.3/4", "..", "1.2.3 4"]
)
@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_uid_that_leads_out_of_the_store_is_refused(
    uid: str, keyword: str, keeper: InstanceKeeper, store: LocalStore, send: Send
) -> None:
    sent = replace(send(**{keyword: uid}), sop_instance_uid=f"{CT_SERIES}.1")
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(sent)
    assert caught.value.status == 0xC000
    assert files_in(store) == []


@pytest.mark.parametrize("field", ["sop_instance_uid", "sop_class_uid"])
@pytest.mark.parametrize("uid", ["1.2.3.4.5.6", "../../x", "", "None"])
def test_a_command_that_does_not_fit_its_data_set_is_refused(
    field: str, uid: str, keeper: InstanceKeeper, store: LocalStore, send: Send
) -> None:
    changed: dict[str, Any] = {field: uid}
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(replace(send(), **changed))
    assert caught.value.status == 0xA900
    assert files_in(store) == []


@pytest.mark.parametrize("data_set", [b"", b"\xff" * 100, b"no DICOM at all", bytes(64)])
def test_a_data_set_that_cannot_be_parsed_is_refused(
    data_set: bytes, keeper: InstanceKeeper, store: LocalStore, send: Send
) -> None:
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(replace(send(), data_set=data_set))
    assert caught.value.status == 0xC000
    assert files_in(store) == []


def test_deflated_bytes_that_do_not_inflate_are_refused(keeper: InstanceKeeper) -> None:
    [file] = [file for file in ONE_OF_EACH if file.stem.endswith("1.2.1.99")]
    sent = arriving_from(file)
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(replace(sent, data_set=b"\xff\xff" + sent.data_set[2:]))
    assert caught.value.status == 0xC000


def test_with_too_little_room_nothing_is_written_at_all(
    store: LocalStore, ledger: Ledger, send: Send
) -> None:
    keeper = InstanceKeeper(store, ledger, HandClock(), free_bytes_min=1 << 60)
    with pytest.raises(StoreFull):
        keeper.keep(send())
    assert files_in(store) == []
    assert ledger.studies.instances(STUDY) == []


def test_a_refusal_says_nothing_of_the_patient(keeper: InstanceKeeper, send: Send) -> None:
    sent = send(PatientName="Secret^Person", PatientID="SECRET-1", StudyInstanceUID="Secret")
    with pytest.raises(InstanceRefused) as caught:
        keeper.keep(sent)
    assert "secret" not in f"{caught.value} {caught.value.hint}".lower()
