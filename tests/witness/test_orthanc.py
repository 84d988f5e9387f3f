"""Orthanc as the PACS: it forwards studies to the node and gets SEG and SR back."""

from __future__ import annotations

import json
import subprocess
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
import pytest

from dicom_node.harness.scanner import send
from dicom_node.lifecycle import DeliveryState, JobState
from tests.factories import make_ct_series, make_xray, write, write_series
from tests.fault.test_kill import sent_bytes
from tests.node_process import NodeProcess, wait_until
from tests.ports import free_port

RequireProgram = Callable[[str], Path]

pytestmark = pytest.mark.witness

SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
COMPREHENSIVE_3D_SR = "1.2.840.10008.5.1.4.1.1.88.34"


@dataclass(frozen=True)
class Orthanc:
    """A running Orthanc, reached by its REST interface."""

    dicom_port: int
    http_port: int

    def call(self, path: str, body: bytes | None = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.http_port}{path}", data=body)
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)

    def file(self, orthanc_id: str) -> bytes:
        url = f"http://127.0.0.1:{self.http_port}/instances/{orthanc_id}/file"
        with urllib.request.urlopen(url, timeout=60) as response:
            content: bytes = response.read()
            return content

    def answers(self) -> bool:
        try:
            return bool(self.call("/system"))
        except OSError:
            return False


@pytest.fixture
def ports() -> list[int]:
    return [free_port() for _ in range(3)]


@pytest.fixture
def orthanc(ports: list[int], tmp_path: Path, require_program: RequireProgram) -> Iterator[Orthanc]:
    program = require_program("Orthanc")
    node_port, dicom_port, http_port = ports
    settings = {
        "Name": "witness",
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "DicomAet": "ORTHANC",
        "DicomPort": dicom_port,
        "HttpPort": http_port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DicomModalities": {"node": ["DICOM_NODE", "127.0.0.1", node_port]},
        "Plugins": [],
    }
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps(settings))
    with (tmp_path / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, config], stdout=log, stderr=log)
    running = Orthanc(dicom_port, http_port)
    try:
        wait_until(running.answers, 30, "Orthanc's REST interface")
        yield running
    finally:
        process.terminate()
        process.wait(30)


def test_what_orthanc_forwards_comes_back_to_it_as_seg_and_sr(
    orthanc: Orthanc, ports: list[int], data_dir: Path, tmp_path: Path
) -> None:
    pacs = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    node = NodeProcess(tmp_path / "node", ports[0], peers={"archive": {**pacs, "may_send": True}})
    node.start()
    files = [
        *sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm")),
        data_dir / "xray" / "dx-nih-00000002_000.dcm",
    ]
    ids = [orthanc.call("/instances", file.read_bytes())["ID"] for file in files]
    assert len(set(ids)) == len(files)
    orthanc.call("/modalities/node/store", json.dumps(ids).encode())

    node.wait_done(studies=2)
    ledger = node.ledger()
    done = ledger.jobs.in_states(JobState.DONE)
    results = {r.sop_instance_uid: r for job in done for r in ledger.results.of_job(job.job_id)}
    ledger.close()
    assert sorted(result.sop_class_uid for result in results.values()) == [
        SEGMENTATION,
        *[COMPREHENSIVE_3D_SR] * 3,
    ]

    returned = [one for one in orthanc.call("/instances") if one not in ids]
    assert len(returned) == len(results)
    for one in returned:
        content = orthanc.file(one)
        file = tmp_path / f"{one}.dcm"
        file.write_bytes(content)
        uid, data_set = sent_bytes(file)
        assert data_set == sent_bytes(node.data / results[uid].path)[1]
    # the results lie in the studies of their sources
    assert len(orthanc.call("/studies")) == 2
    seg = next(r for r in results.values() if r.sop_class_uid == SEGMENTATION)
    header = pydicom.dcmread(node.data / seg.path, stop_before_pixels=True)
    source = pydicom.dcmread(files[0], stop_before_pixels=True)
    assert header.StudyInstanceUID == source.StudyInstanceUID
    assert header.FrameOfReferenceUID == source.FrameOfReferenceUID
    assert node.stop() == 0


def test_orthanc_asks_what_is_here_and_gets_its_storage_committed(
    orthanc: Orthanc, ports: list[int], data_dir: Path, tmp_path: Path
) -> None:
    pacs = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules: []\n")
    node = NodeProcess(
        tmp_path / "node",
        ports[0],
        node={"rules_file": str(rules)},
        peers={"archive": {**pacs, "may_send": True}},
    ).start()
    files = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[:5]
    ids = [orthanc.call("/instances", file.read_bytes())["ID"] for file in files]
    orthanc.call("/modalities/node/store", json.dumps(ids).encode())

    header = pydicom.dcmread(files[0], stop_before_pixels=True)
    asked = {
        "Level": "Study",
        "Query": {
            "StudyInstanceUID": str(header.StudyInstanceUID),
            "NumberOfStudyRelatedInstances": "",
            "PatientID": "",
        },
    }
    query = orthanc.call("/modalities/node/query", json.dumps(asked).encode())
    [answered] = orthanc.call(f"{query['Path']}/answers?expand&simplify")
    assert answered["NumberOfStudyRelatedInstances"] == str(len(files))
    assert answered["PatientID"] == str(header.PatientID)

    def committed(references: list[tuple[str, str]]) -> Any:
        wanted = [{"SOPClassUID": c, "SOPInstanceUID": i} for c, i in references]
        body = json.dumps({"DicomInstances": wanted}).encode()
        begun = orthanc.call("/modalities/node/storage-commitment", body)
        wait_until(lambda: orthanc.call(begun["Path"])["Status"] != "Pending", 60, "the report")
        return orthanc.call(begun["Path"])

    headers = [pydicom.dcmread(file, stop_before_pixels=True) for file in files]
    held = [(str(one.SOPClassUID), str(one.SOPInstanceUID)) for one in headers]
    report = committed(held)
    assert report["Status"] == "Success"
    assert {one["SOPInstanceUID"] for one in report["Success"]} == {uid for _, uid in held}
    report = committed([held[0], (held[1][0], "1.2.3.404")])
    assert report["Status"] == "Failure"
    assert [one["SOPInstanceUID"] for one in report["Failures"]] == ["1.2.3.404"]
    assert node.stop() == 0


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_orthanc_has_the_prior_study_that_a_rule_wants(
    retrieve: str, orthanc: Orthanc, ports: list[int], tmp_path: Path
) -> None:
    patient: dict[str, Any] = {"PatientID": "P-1", "PatientBirthDate": "19450607"}
    prior = make_ct_series(5, **patient, StudyInstanceUID="1.2.3.1", StudyDate="20230601")
    for file in write_series(prior, tmp_path / "prior"):
        orthanc.call("/instances", file.read_bytes())
    rule = {
        "name": "quality",
        "when": {"Modality": "CR"},
        "engines": ["cxr_quality"],
        "destinations": ["archive"],
        "priors": {"from": "archive", "modalities": ["CT"], "body_parts": ["CHEST"]},
    }
    rules = tmp_path / "rules.yaml"
    rules.write_text(json.dumps({"rules": [rule]}))
    pacs = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    peers = {
        "archive": {**pacs, "may_send": True, "retrieve": retrieve},
        "scanner": {"ae_title": "SCANNER", "may_send": True},
    }
    node = NodeProcess(tmp_path / "node", ports[0], node={"rules_file": str(rules)}, peers=peers)
    node.start()
    current = make_xray(**patient, StudyInstanceUID="1.2.3.2", StudyDate="20240601")
    send([write(current, tmp_path / "current.dcm")], "127.0.0.1", ports[0], called="DICOM_NODE")
    node.wait_done(studies=2)
    ledger = node.ledger()
    [job] = ledger.jobs.of_study("1.2.3.2")
    assert job.state is JobState.DONE
    assert ledger.fetches.of_job(job.job_id) == ("1.2.3.1",)
    assert ledger.studies.instance_count("1.2.3.1") == 5
    study = ledger.studies.get("1.2.3.1")
    assert study is not None
    assert study.reason == "fetched as a prior study of 1.2.3.2"
    ledger.close()
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ({"proof": "commitment"}, "it commits to keep it"),
        ({"proof": "read-back"}, "it answers a C-FIND with it"),
        ({"proof": "read-back", "read_back": "content"}, "it gave it back unchanged"),
    ],
)
def test_orthanc_proves_what_it_got(
    policy: dict[str, str],
    reason: str,
    orthanc: Orthanc,
    ports: list[int],
    data_dir: Path,
    tmp_path: Path,
) -> None:
    """By its report of storage commitment, which it opens an association for; C-FIND; C-GET."""
    pacs = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    peers = {
        "archive": {**pacs, "may_send": True, **policy},
        "scanner": {"ae_title": "SCANNER", "may_send": True},
    }
    node = NodeProcess(tmp_path / "node", ports[0], peers=peers).start()
    slices = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    send(slices, "127.0.0.1", ports[0], called="DICOM_NODE")
    node.wait_done(studies=1)
    ledger = node.ledger()
    parcels = ledger.deliveries.in_states(*DeliveryState)
    ledger.close()
    assert sorted(parcel.result.kind for parcel in parcels) == ["SEG", "SR"]
    assert [(p.delivery.state, p.delivery.reason) for p in parcels] == [
        (DeliveryState.PROVEN, reason)
    ] * 2
    assert len(orthanc.call("/instances")) == 2
    assert node.stop() == 0


@pytest.mark.parametrize(
    ("policy", "profile", "reason"),
    [
        ({"proof": "commitment"}, "", "it commits to keep it"),
        ({"proof": "read-back"}, "", "it answers a C-FIND with it"),
        ({"proof": "read-back", "read_back": "content"}, "", "it gave it back unchanged"),
        ({"proof": "commitment"}, "research", "it commits to keep it"),
        ({"proof": "read-back", "read_back": "content"}, "research", "it gave it back unchanged"),
    ],
)
def test_orthanc_proves_the_originals_and_the_copies_that_it_was_forwarded(
    policy: dict[str, str],
    profile: str,
    reason: str,
    orthanc: Orthanc,
    ports: list[int],
    data_dir: Path,
    tmp_path: Path,
) -> None:
    pacs = {"ae_title": "ORTHANC", "host": "127.0.0.1", "port": orthanc.dicom_port}
    peers = {
        "archive": {**pacs, "may_send": True, **policy},
        "scanner": {"ae_title": "SCANNER", "may_send": True},
    }
    to = {"to": ["archive"], "profile": profile} if profile else "archive"
    rules = tmp_path / "rules.yaml"
    rules.write_text(
        json.dumps(
            {
                "profiles": {"research": {"deidentify": {}}},
                "rules": [{"name": "all", "when": {}, "forward": to}],
            }
        )
    )
    node = NodeProcess(tmp_path / "node", ports[0], node={"rules_file": str(rules)}, peers=peers)
    node.start()
    slices = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
    send(slices, "127.0.0.1", ports[0], called="DICOM_NODE")
    ledger = node.ledger()
    wait_until(
        lambda: bool(ledger.forwards.in_states(DeliveryState.PROVEN, DeliveryState.UNPROVEN)),
        60,
        "the end of the forward",
    )
    [forward] = ledger.forwards.in_states(*DeliveryState)
    counts = ledger.forwards.instance_counts()
    ledger.close()
    assert (forward.state, forward.reason) == (
        DeliveryState.PROVEN,
        f"{len(slices)} instances: {reason}",
    )
    assert counts == {"archive": {DeliveryState.PROVEN: len(slices)}}
    there = orthanc.call("/instances?expand")
    assert len(there) == len(slices)
    uids = {str(pydicom.dcmread(one, stop_before_pixels=True).SOPInstanceUID) for one in slices}
    as_they_came = {one["MainDicomTags"]["SOPInstanceUID"] for one in there} == uids
    assert as_they_came is (not profile)
    assert node.stop() == 0
