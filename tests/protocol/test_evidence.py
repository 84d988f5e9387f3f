"""A whole node acts as soon as a study is proven to be whole, however long it would wait without.

The node waits for an hour where nothing is proven; so whoever sees a job begin has seen the proof.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from pydicom.dataset import Dataset
from pydicom.uid import UID, CTImageStorage
from pynetdicom import AE
from pynetdicom.sop_class import ModalityPerformedProcedureStep  # type: ignore[attr-defined]

from dicom_node.harness.query_archive import Inquiry, QueryArchive
from dicom_node.harness.scanner import send
from dicom_node.lifecycle import StudyState
from dicom_node.verdict import Certainty
from tests import factories
from tests.factories import make_ct_series, write_series
from tests.node_process import NodeProcess, wait_until

SLICES = 5
PATIENT_S = 3600
RULES = {
    "rules": [
        {
            "name": "lungs",
            "when": {"Modality": "CT"},
            "engines": ["ct_lungs"],
            "destinations": ["scanner"],
        }
    ]
}


class AskedScanner(QueryArchive):
    """A scanner that knows how often it answered a C-FIND."""

    answers = 0

    def before_answer(self, inquiry: Inquiry, answered: int) -> None:
        self.answers += 1
        super().before_answer(inquiry, answered)


class Site:
    """A node that waits for an hour, and a scanner that answers C-FIND."""

    def __init__(self, folder: Path, port: int, scanner: AskedScanner) -> None:
        rules = folder / "rules.yaml"
        rules.write_text(yaml.safe_dump(RULES))
        self.scanner = scanner
        self.files = write_series(make_ct_series(SLICES), folder / "ct")
        peer = {
            "ae_title": "SCANNER",
            "may_send": True,
            "host": "127.0.0.1",
            "port": scanner.port,
            "answers_find": True,
        }
        self.node = NodeProcess(
            folder / "node",
            port,
            node={"rules_file": str(rules)},
            assemble={"quiet_after_release_s": PATIENT_S, "longest_wait_s": PATIENT_S},
            peers={"scanner": peer},
        )
        self.node.start()

    def store(self, files: list[Path], port: int | None = None, called: str = "DICOM_NODE") -> None:
        port = port or self.node.port
        answers = send(files, "127.0.0.1", port, calling="SCANNER", called=called)
        assert {answer.status for answer in answers} == {0}

    def wait_for_job(self) -> str:
        """Wait until an engine has begun; return what was said for the study."""
        ledger = self.node.ledger()
        wait_until(lambda: bool(ledger.events.named("STARTED")[1:]), 60.0, "the job")
        [whole, *_] = ledger.verdicts.of_study(factories.STUDY)
        ledger.close()
        assert whole.certainty is Certainty.COMPLETE
        assert whole.against == ()
        return "; ".join(whole.for_)


@pytest.fixture
def site(tmp_path: Path, free_port: int) -> Iterator[Site]:
    with AskedScanner(tmp_path / "scanner", ae_title="SCANNER", destinations={}) as scanner:
        site = Site(tmp_path, free_port, scanner)
        yield site
        site.node.stop()


def announce(port: int, uids: list[str]) -> None:
    """Announce by MPPS that a procedure step made these slices, and is COMPLETED."""
    ae = AE("SCANNER")
    ae.add_requested_context(ModalityPerformedProcedureStep)
    association = ae.associate("127.0.0.1", port, ae_title="DICOM_NODE")
    assert association.is_established
    scheduled = Dataset()
    scheduled.StudyInstanceUID = factories.STUDY
    begin = Dataset()
    begin.PerformedProcedureStepStatus = "IN PROGRESS"
    begin.ScheduledStepAttributesSequence = [scheduled]
    begin.PerformedSeriesSequence = []
    series = Dataset()
    series.SeriesInstanceUID = factories.CT_SERIES
    series.ReferencedImageSequence = []
    for uid in uids:
        reference = Dataset()
        reference.ReferencedSOPClassUID = CTImageStorage
        reference.ReferencedSOPInstanceUID = uid
        series.ReferencedImageSequence.append(reference)
    end = Dataset()
    end.PerformedProcedureStepStatus = "COMPLETED"
    end.PerformedSeriesSequence = [series]
    step, step_uid = ModalityPerformedProcedureStep, UID("1.2.3.99")
    assert association.send_n_create(begin, step, step_uid)[0].Status == 0
    assert association.send_n_set(end, step, step_uid)[0].Status == 0
    association.release()


def test_a_study_that_mpps_names_whole_is_routed_without_a_wait(site: Site) -> None:
    uids = [str(dataset.SOPInstanceUID) for dataset in make_ct_series(SLICES)]
    announce(site.node.port, uids)
    site.store(site.files)
    assert "MPPS of SCANNER names all 5 instances" in site.wait_for_job()
    ledger = site.node.ledger()
    last_at = max(i.received_at for i in ledger.studies.instances(factories.STUDY))
    began_at = ledger.events.named("STARTED")[-1].at
    ledger.close()
    print(f"from the last instance to the begin of the job: {began_at - last_at:.3f} s")


def test_a_study_that_its_sender_counts_is_routed_without_a_wait(site: Site) -> None:
    site.store(site.files, site.scanner.port, "SCANNER")
    site.store(site.files)
    assert "SCANNER says that it has 5 instances" in site.wait_for_job()


def test_a_study_of_which_the_sender_has_more_waits(site: Site) -> None:
    site.store(site.files, site.scanner.port, "SCANNER")
    site.store(site.files[:3])
    ledger = site.node.ledger()
    wait_until(lambda: site.scanner.answers > 0, 60.0, "the question")
    study = ledger.studies.get(factories.STUDY)
    assert study is not None
    assert study.state is StudyState.RECEIVING
    ledger.close()
    site.store(site.files[3:])
    assert "SCANNER says that it has 5 instances" in site.wait_for_job()
