"""Orthanc and DCMTK's dcmqrscp as the archive that is asked, and that sends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.uid import UID

from dicom_node.errors import PeerRefused, PeerUnreachable
from dicom_node.harness import scanner
from dicom_node.harness.archive import Archive
from dicom_node.scu.address import Address
from dicom_node.scu.counting import count_at_sender
from dicom_node.scu.find import Level, find
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.priors import find_priors
from dicom_node.scu.retrieve import ReceivedInstance, get, move
from tests.factories import (
    CT_SERIES,
    MR_SERIES,
    STUDY,
    make_ct_series,
    make_mr_series,
    write_series,
)
from tests.node_process import wait_until

HOST = "127.0.0.1"
CANCELLED = 0xFE00

RequireProgram = Callable[[str], Path]

pytestmark = pytest.mark.witness


@dataclass(frozen=True)
class Witness:
    """A running archive, and how it sends to `DICOM_NODE`."""

    address: Address
    destination: Archive

    def keep(self, files: list[Path]) -> None:
        answers = scanner.send(files, HOST, self.address.port, called=self.address.called_ae_title)
        assert [answer.status for answer in answers] == [0x0000] * len(files)


def start_orthanc(program: Path, folder: Path, port: int, destination: int) -> list[str | Path]:
    settings = {
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "DicomAet": "ORTHANC",
        "DicomPort": port,
        "HttpServerEnabled": False,
        "DicomModalities": {"node": ["DICOM_NODE", HOST, destination]},
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowMove": True,
        "Plugins": [],
    }
    config = folder / "orthanc.json"
    config.write_text(json.dumps(settings))
    return [program, config]


def start_dcmqrscp(program: Path, folder: Path, port: int, destination: int) -> list[str | Path]:
    config = folder / "dcmqrscp.cfg"
    config.write_text(
        f"""NetworkTCPPort = {port}
MaxPDUSize = 131072
MaxAssociations = 16
HostTable BEGIN
node = (DICOM_NODE, {HOST}, {destination})
HostTable END
VendorTable BEGIN
VendorTable END
AETable BEGIN
DCMQRSCP {folder} RW (200, 1024mb) ANY
AETable END
"""
    )
    return [program, "--require-find", "-c", config]


STARTS = {"Orthanc": start_orthanc, "dcmqrscp": start_dcmqrscp}


@pytest.fixture(params=STARTS)
def witness(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    free_port: int,
    require_program: RequireProgram,
) -> Iterator[Witness]:
    yield from running(request.param, tmp_path, free_port, require_program)


@pytest.fixture
def orthanc(tmp_path: Path, free_port: int, require_program: RequireProgram) -> Iterator[Witness]:
    yield from running("Orthanc", tmp_path, free_port, require_program)


def running(
    name: str, tmp_path: Path, port: int, require_program: RequireProgram
) -> Iterator[Witness]:
    folder = tmp_path / name
    folder.mkdir()
    with Archive(tmp_path / "destination") as destination:
        command = STARTS[name](require_program(name), folder, port, destination.port)
        with (tmp_path / f"{name}.log").open("w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            address = Address(HOST, port, name.upper(), "DICOM_NODE", 20.0)
            wait_until(lambda: answers_echo(address), 30, name)
            yield Witness(address, destination)
        finally:
            process.terminate()
            process.wait(30)


def answers_echo(address: Address) -> bool:
    try:
        return scanner.echo(HOST, address.port, called=address.called_ae_title) == 0x0000
    except PeerUnreachable:
        return False


@pytest.fixture
def study(witness: Witness, tmp_path: Path) -> list[Path]:
    """A study of two series that the witness holds."""
    files = [
        *write_series(make_ct_series(12), tmp_path / "ct"),
        *write_series(make_mr_series(3), tmp_path / "mr"),
    ]
    witness.keep(files)
    return files


def taken(instances: list[ReceivedInstance]) -> Callable[[ReceivedInstance], int]:
    def take(instance: ReceivedInstance) -> int:
        instances.append(instance)
        return 0x0000

    return take


def data_sets_of(files: list[Path]) -> dict[str, bytes]:
    opened = [Part10File.read(file) for file in files]
    return {one.sop_instance_uid: one.data_set() for one in opened}


def decoded(instance: ReceivedInstance) -> Dataset:
    syntax = UID(instance.transfer_syntax_uid)
    return read_dataset(BytesIO(instance.data_set), syntax.is_implicit_VR, syntax.is_little_endian)


def without_meta(file: Path) -> Dataset:
    held = Dataset()
    held.update(pydicom.dcmread(file))
    return held


# ---------------------------------------------------------------- C-FIND


def test_each_archive_tells_how_much_it_has(witness: Witness, study: list[Path]) -> None:
    count = count_at_sender(witness.address, STUDY)
    assert (count.series_count, count.instance_count, count.is_consistent) == (2, 15, True)
    assert [(one.series_instance_uid, one.instance_count) for one in count.series] == [
        (CT_SERIES, 12),
        (MR_SERIES, 3),
    ]
    tells = witness.address.called_ae_title == "ORTHANC"  # and DCMTK's is counted
    assert [one.is_counted for one in count.series] == [not tells] * 2
    assert count.stated_instance_count == (15 if tells else None)
    assert count_at_sender(witness.address, "1.2.3").instance_count == 0


def test_each_archive_finds_the_studies_of_a_patient(witness: Witness, study: list[Path]) -> None:
    [found] = find_priors(witness.address, "SYN-1", study_date="20240101-20240103")
    assert (found.study_instance_uid, found.study_date) == (STUDY, "20240102")
    assert (found.modalities, found.series_count) == (("CT", "MR"), 2)
    assert find_priors(witness.address, "SYN-1", study_date="20240103-") == []
    assert find_priors(witness.address, "SYN-?") == []


def test_each_archive_is_asked_for_no_more_than_is_wanted(
    witness: Witness, study: list[Path]
) -> None:
    keys = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": CT_SERIES, "SOPInstanceUID": ""}
    found = find(witness.address, Level.IMAGE, keys, matches_max=3)
    assert (len(found.matches), found.is_complete) == (3, False)


# ---------------------------------------------------------------- C-GET and C-MOVE


def test_what_each_archive_sends_is_taken_as_it_comes(witness: Witness, study: list[Path]) -> None:
    instances: list[ReceivedInstance] = []
    outcome = get(witness.address, STUDY, taken(instances))
    assert outcome.is_whole
    assert (outcome.completed, outcome.taken) == (15, 15)
    assert {one.sop_instance_uid: one.data_set for one in instances} == data_sets_of(study)


def test_each_archive_sends_where_it_is_told(witness: Witness, study: list[Path]) -> None:
    outcome = move(witness.address, STUDY, "DICOM_NODE", series_instance_uid=MR_SERIES)
    assert outcome.is_whole
    assert outcome.completed == 3
    held = {str(one.SOPInstanceUID): one for one in map(without_meta, study[12:])}
    arrived = [without_meta(one.path) for one in witness.destination.received()]
    assert {str(one.SOPInstanceUID): one for one in arrived} == held


def test_an_unknown_destination_is_refused(witness: Witness, study: list[Path]) -> None:
    with pytest.raises(PeerRefused) as refused:
        move(witness.address, STUDY, "NOWHERE")
    assert refused.value.status in (0xA801, 0xC000)  # DCMTK's, Orthanc's


def test_a_c_get_that_is_cancelled_ends_early_or_whole(witness: Witness, study: list[Path]) -> None:
    instances: list[ReceivedInstance] = []
    outcome = get(witness.address, STUDY, taken(instances), cancelled=lambda: len(instances) >= 3)
    # on a slow day the C-CANCEL comes after the last of them
    assert outcome.status == CANCELLED or outcome.is_whole
    assert outcome.taken == len(instances) >= 3
    assert outcome.completed <= len(instances)  # a last one may be on its way when it counts
    assert outcome.completed + outcome.remaining == 15


def test_a_real_study_of_orthancs_is_the_same(orthanc: Witness, data_dir: Path) -> None:
    files = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    orthanc.keep(files)
    instances: list[ReceivedInstance] = []
    study_instance_uid = str(without_meta(files[0]).StudyInstanceUID)
    assert get(orthanc.address, study_instance_uid, taken(instances)).is_whole
    held = {str(one.SOPInstanceUID): one for one in map(without_meta, files)}
    # element by element: Orthanc writes the lengths of sequences anew, JPEG-LS stays as it was
    assert {one.sop_instance_uid: decoded(one) for one in instances} == held
    assert move(orthanc.address, study_instance_uid, "DICOM_NODE").completed == len(files)
    arrived = [without_meta(one.path) for one in orthanc.destination.received()]
    assert {str(one.SOPInstanceUID): one for one in arrived} == held


def test_orthanc_sends_each_transfer_syntax_as_it_holds_it(
    orthanc: Witness, data_dir: Path
) -> None:
    names = ("1.2.4.50", "1.2.4.51", "1.2.4.57", "1.2.4.81", "1.2.4.91")
    files = [data_dir / "transfer-syntaxes" / f"CTImage_1.2.840.10008.{name}.dcm" for name in names]
    orthanc.keep(files)
    instances: list[ReceivedInstance] = []
    study_instance_uid = str(without_meta(files[0]).StudyInstanceUID)
    assert get(orthanc.address, study_instance_uid, taken(instances)).is_whole
    sent = {one.transfer_syntax_uid: decoded(one).PixelData for one in instances}
    # group lengths it corrects; what is compressed stays as it was
    assert sent == {
        f"1.2.840.10008.{name}": without_meta(file).PixelData
        for name, file in zip(names, files, strict=True)
    }
