"""A de-identified copy leaves, and what is found on it comes back to the real study."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from dicom_node.lifecycle import DeliveryState
from tests import factories
from tests.factories import make_ct_series, write, write_series
from tests.node_process import NodeProcess, wait_until
from tests.ports import free_port

RULES = {
    "profiles": {"research": {"deidentify": {}, "results_to": ["archive"]}},
    "rules": [
        {
            "name": "to-research",
            "when": {"Modality": "CT"},
            "forward": {"to": ["research"], "profile": "research"},
        }
    ],
}


class Site:
    """A node between a scanner, an archive, and a research site that sees copies only."""

    def __init__(self, folder: Path) -> None:
        self.archive = Archive(folder / "archive")
        self.research = Archive(folder / "research")
        self.archive.start()
        self.research.start()
        rules = folder / "rules.yaml"
        rules.write_text(yaml.safe_dump(RULES))
        peers = {
            "scanner": {"ae_title": "SCANNER", "may_send": True},
            "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": self.archive.port},
            "research": {
                "ae_title": "RESEARCH",
                "may_send": True,
                "host": "127.0.0.1",
                "port": self.research.port,
            },
        }
        self.node = NodeProcess(
            folder / "node", _free_port(), node={"rules_file": str(rules)}, peers=peers
        )
        self.node.start()

    def stop(self) -> None:
        self.node.stop()
        self.archive.stop()
        self.research.stop()

    def send(self, files: list[Path], calling: str) -> None:
        answers = send(files, "127.0.0.1", self.node.port, calling=calling, called="DICOM_NODE")
        assert {answer.status for answer in answers} == {0}


def files_of(archive: Archive) -> list[Path]:
    return [one.path for one in archive.received()]


def _free_port() -> int:
    return free_port()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.stop()


def result_for(copy: Dataset) -> Dataset:
    """Return a small report on a copy, as a research site would send it."""
    result = factories.make_xray(
        StudyInstanceUID=str(copy.StudyInstanceUID),
        SeriesInstanceUID="1.2.826.0.1.3680043.9.77",
        SOPInstanceUID="1.2.826.0.1.3680043.9.77.1",
    )
    result.PatientID = copy.PatientID
    result.PatientName = copy.PatientName
    source = Dataset()
    source.ReferencedSOPClassUID = copy.SOPClassUID
    source.ReferencedSOPInstanceUID = copy.SOPInstanceUID
    result.SourceImageSequence = [source]
    return result


def test_a_copy_tells_nobody_and_its_result_belongs_to_the_real_study(
    site: Site, tmp_path: Path
) -> None:
    originals = make_ct_series(3, PatientName="Secret^Jane", PatientID="SECRET-1")
    site.send(write_series(originals, tmp_path / "ct"), "SCANNER")
    wait_until(lambda: len(files_of(site.research)) == 3, 60.0, "the copies")
    copies = [pydicom.dcmread(file) for file in files_of(site.research)]
    for file in files_of(site.research):
        content = file.read_bytes()
        assert b"Secret" not in content
        assert b"SECRET-1" not in content
        assert str(originals[0].StudyInstanceUID).encode() not in content
    assert {copy.PatientIdentityRemoved for copy in copies} == {"YES"}
    assert len({copy.StudyInstanceUID for copy in copies}) == 1

    result = result_for(copies[0])
    site.send([write(result, tmp_path / "result.dcm")], "RESEARCH")
    wait_until(lambda: len(files_of(site.archive)) == 1, 60.0, "the result")
    [file] = files_of(site.archive)
    back = pydicom.dcmread(file)
    assert back.StudyInstanceUID == originals[0].StudyInstanceUID
    assert back.PatientID == "SECRET-1"
    assert back.PatientName == "Secret^Jane"
    assert back.SOPInstanceUID == result.SOPInstanceUID
    referenced = back.SourceImageSequence[0].ReferencedSOPInstanceUID
    assert referenced in {one.SOPInstanceUID for one in originals}
    assert len(files_of(site.research)) == 3  # no rule was asked of the result
    log = (site.node.folder / "node.log").read_text()
    assert "SECRET-1" not in log
    assert "Jane" not in log


def test_a_copy_that_comes_back_itself_is_not_sent_on(site: Site, tmp_path: Path) -> None:
    site.send(write_series(make_ct_series(1), tmp_path / "ct"), "SCANNER")
    wait_until(lambda: len(files_of(site.research)) == 1, 60.0, "the copy")
    site.send(files_of(site.research), "RESEARCH")
    ledger = site.node.ledger()
    wait_until(lambda: bool(ledger.forwards.in_states(DeliveryState.DEAD)), 60.0, "the refusal")
    [refused] = ledger.events.named("NOT_FORWARDED")
    ledger.close()
    assert "a copy that the node sent" in refused.reason
    assert files_of(site.archive) == []
