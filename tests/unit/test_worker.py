"""The worker's attempt at a job: done, refused, failed, or no longer what it was made for."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, InferSettings, NodeSettings, Peer, ResultsSettings
from dicom_node.errors import DeviceLost, EngineError, EngineUnavailable
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState
from dicom_node.model import Job
from dicom_node.route.router import EngineLabel
from dicom_node.store.local import LocalStore
from dicom_node.worker import Worker
from tests import factories
from tests.factories import make_xray
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.route import made

ROOT = Path(__file__).parents[2]
ENGINE = "cxr_pneumonia"
RULE = made.engine_rule("chest", {"Modality": "CR"}, ENGINE)


@dataclass
class Site:
    """A ledger and a store with one complete chest X-ray, routed; and a worker."""

    folder: Path
    engines_dir: Path

    def __post_init__(self) -> None:
        self.config = Config(
            node=NodeSettings(data_dir=self.folder / "data", engines_dir=self.engines_dir),
            infer=InferSettings(threads=1, runtime="onnxruntime", attempts_max=3, retry_first_s=10),
        )
        self.ledger: Ledger = rows.new_ledger(self.folder)
        self.store = LocalStore(self.config.node.data_dir)
        self.clock = HandClock(1000.0)
        self.passed: list[str] = []
        self.worker = Worker(self.config, self.ledger, self.store, self.clock, self.passed.append)

    def use(self, config: Config) -> None:
        """Have a worker that was started with another configuration."""
        self.worker = Worker(config, self.ledger, self.store, self.clock, self.passed.append)

    def receive(self, dataset: Dataset) -> None:
        file = factories.write(dataset, self.store.path(f"instances/{dataset.SOPInstanceUID}.dcm"))
        self.ledger.studies.instance_stored(
            rows.an_instance(
                sop_instance_uid=str(dataset.SOPInstanceUID),
                study_instance_uid=factories.STUDY,
                series_instance_uid=factories.XRAY_SERIES,
                path=str(file.relative_to(self.store.root)),
                digest=hashlib.sha256(file.read_bytes()).hexdigest(),
            )
        )

    def route(self) -> Job:
        """Complete and route the study; return its job."""
        [evidence] = self.ledger.studies.receiving()
        self.ledger.studies.completed(evidence, "quiet", 900.0)
        manifest = load_manifest(self.engines_dir / ENGINE)
        labels = {ENGINE: EngineLabel(manifest.version, manifest.model_digest)}
        made.router(self.ledger, self.store, (RULE,), labels, self.clock).turn()
        [job] = self.ledger.jobs.in_states(JobState.QUEUED)
        return job

    def job(self, job_id: str) -> Job:
        return rows.job_of(self.ledger, job_id)


class BrokenEngine:
    """An engine whose every run raises; its manifest is that of the true one."""

    def __init__(self, error: Exception) -> None:
        self.manifest = load_manifest(ROOT / "engines" / ENGINE)
        self.error = error

    def with_parameters(self, parameters: Mapping[str, float]) -> BrokenEngine:
        return self

    def run(self, paths: Sequence[Path], others: Any = None) -> Any:
        raise self.error


@pytest.fixture(autouse=True)
def no_tracebacks_drawn() -> Iterator[None]:
    """structlog draws those of the expected errors, which takes seconds."""
    with capture_logs():
        yield


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path, ROOT / "engines")
    yield site
    site.ledger.close()


def break_with(site: Site, error: Exception) -> None:
    site.worker._engines[ENGINE] = BrokenEngine(error)  # type: ignore[assignment]


# ---------------------------------------------------------------- done


def test_a_job_ends_in_results_that_lie_in_the_store_and_wait_to_be_sent(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    site.worker.do(job.job_id)
    done = site.job(job.job_id)
    assert done.state is JobState.DONE
    assert done.summary.startswith("pneumonia 0.")
    assert set(done.seconds) == {"infer", "encode", "work"}
    [result] = site.ledger.results.of_job(job.job_id)
    content = site.store.path(result.path).read_bytes()
    assert result.digest == hashlib.sha256(content).hexdigest()
    assert result.size_bytes == len(content)
    written = pydicom.dcmread(site.store.path(result.path))
    assert written.SOPInstanceUID == result.sop_instance_uid
    assert written.SOPClassUID == result.sop_class_uid
    assert written.StudyInstanceUID == factories.STUDY
    [parcel] = site.ledger.deliveries.of_job(job.job_id)
    assert (parcel.delivery.destination, parcel.delivery.state) == (
        "archive",
        DeliveryState.PENDING,
    )


def test_each_destination_gets_the_tree_that_it_wants(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    archive = Peer(ae_title="ARCHIVE", host="127.0.0.1", port=104, results="everything")
    site.use(site.config.model_copy(update={"peers": {"archive": archive}}))
    site.worker.do(job.job_id)
    results = site.ledger.results.of_job(job.job_id)
    kinds = sorted((one.kind, one.renditions) for one in results)
    assert ("SR", ("default",)) in kinds
    sent = {parcel.result.kind for parcel in site.ledger.deliveries.of_job(job.job_id)}
    assert sent == {"PR", "SC", "PDF", "SR"}  # nothing is present: there are no key objects
    reports = [
        parcel.result
        for parcel in site.ledger.deliveries.of_job(job.job_id)
        if parcel.result.kind == "SR"
    ]
    assert [one.renditions for one in reports] == [("PR+SC+KO+PDF+SR",)]


def test_what_does_not_pass_the_gate_parks_the_job_with_its_reasons_and_is_not_sent(
    site: Site,
) -> None:
    site.receive(make_xray())
    job = site.route()
    settings = ResultsSettings(bytes_max=100)
    site.use(site.config.model_copy(update={"results": settings}))
    site.worker.do(job.job_id)
    parked = site.job(job.job_id)
    assert parked.state is JobState.PARKED
    assert parked.reason.startswith("held back before sending: SR 2.25.")
    assert "more than results.bytes_max: 100" in parked.reason
    assert site.ledger.deliveries.of_job(job.job_id) == []
    assert site.ledger.results.of_job(job.job_id) == []

    site.use(site.config.model_copy(update={"results": ResultsSettings()}))
    assert site.ledger.jobs.retry(job.job_id, site.clock())
    site.worker.do(job.job_id)
    assert site.job(job.job_id).state is JobState.DONE


def test_the_results_are_durable_before_the_ledger_knows_them(site: Site) -> None:
    seen: list[tuple[str, int, int]] = []
    site.receive(make_xray())
    job = site.route()

    def look(name: str) -> None:
        files = len(list((site.store.root / "results").rglob("*.dcm")))
        seen.append((name, files, len(site.ledger.results.of_job(job.job_id))))

    Worker(site.config, site.ledger, site.store, site.clock, look).do(job.job_id)
    assert seen == [
        (f"infer.started:{ENGINE}", 0, 0),
        ("infer.inferred", 0, 0),
        ("encode.encoded", 0, 0),
        ("encode.saved", 1, 0),
        ("infer.recorded", 1, 1),
    ]


def test_a_second_attempt_gives_the_same_uid_and_the_same_bytes(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()

    class LostBeforeItWasRecorded(Exception):
        pass

    def lose(name: str) -> None:
        if name == "encode.saved":
            raise LostBeforeItWasRecorded

    Worker(site.config, site.ledger, site.store, site.clock, lose).do(job.job_id)
    [first] = (site.store.root / "results").rglob("*.dcm")
    before = first.read_bytes()
    site.clock.now = 90_000.0  # a day later
    site.worker.do(job.job_id)
    assert site.job(job.job_id).state is JobState.DONE
    [second] = (site.store.root / "results").rglob("*.dcm")
    assert (second, second.read_bytes()) == (first, before)


def test_a_late_result_of_a_lost_attempt_is_dropped(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()

    def somebody_else_took_it(name: str) -> None:
        if name == "encode.saved":
            running = site.job(job.job_id)
            site.ledger.jobs.interrupt(running, "the node stopped while it ran", 1001.0)
            rows.started(site.ledger, job.job_id)

    Worker(site.config, site.ledger, site.store, site.clock, somebody_else_took_it).do(job.job_id)
    assert (site.job(job.job_id).state, site.job(job.job_id).attempt) == (JobState.RUNNING, 2)
    assert site.ledger.results.of_job(job.job_id) == []
    assert site.ledger.deliveries.of_job(job.job_id) == []


def test_a_job_that_is_no_longer_to_be_had_is_left_alone(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    rows.started(site.ledger, job.job_id)
    site.worker.do(job.job_id)
    site.worker.do("unknown")
    assert site.passed == []
    assert site.job(job.job_id).attempt == 1


# ---------------------------------------------------------------- refused


def test_what_the_engine_was_not_made_for_is_refused_with_every_reason(site: Site) -> None:
    site.receive(make_xray(BodyPartExamined="ARM", ViewPosition="LATERAL"))
    job = site.route()
    site.worker.do(job.job_id)
    refused = site.job(job.job_id)
    assert refused.state is JobState.REFUSED
    assert "not what cxr_pneumonia was made for" in refused.reason
    assert "BodyPartExamined is ARM, not CHEST" in refused.reason
    assert "ViewPosition is LATERAL, not PA or AP" in refused.reason
    assert site.ledger.results.of_job(job.job_id) == []
    assert refused.failures == 0


# ---------------------------------------------------------------- failed


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (EngineUnavailable("the device is lost"), "the device is lost"),
        (ValueError("Doe^Jane"), "ValueError"),  # a foreign message may quote anything
        (MemoryError(), "MemoryError"),
    ],
)
def test_a_failure_is_tried_again_later_and_parked_in_the_end(
    error: Exception, reason: str, site: Site
) -> None:
    site.receive(make_xray())
    job = site.route()
    break_with(site, error)
    site.worker.do(job.job_id)
    assert (site.job(job.job_id).state, site.job(job.job_id).reason) == (JobState.QUEUED, reason)
    assert site.job(job.job_id).not_before == 1010.0
    site.clock.now = 1010.0
    site.worker.do(job.job_id)
    assert site.job(job.job_id).not_before == 1030.0
    site.worker.do(job.job_id)
    parked = site.job(job.job_id)
    assert parked.state is JobState.PARKED
    assert parked.reason == f"failed 3 times: {reason}"
    assert parked.attempt == 3


def test_a_lost_device_costs_one_attempt_and_ends_the_process(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    break_with(site, DeviceLost("GPU 0 is lost"))
    with pytest.raises(DeviceLost):
        site.worker.do(job.job_id)
    failed = site.job(job.job_id)
    assert (failed.state, failed.reason) == (JobState.QUEUED, "GPU 0 is lost")
    assert (failed.failures, failed.crashes) == (1, 0)


def test_a_retry_after_the_cause_was_removed_is_done(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    break_with(site, EngineError("the model raised"))
    for _ in range(3):
        site.worker.do(job.job_id)
    site.ledger.jobs.retry(job.job_id, 2000.0)
    site.worker._engines.clear()
    site.worker.do(job.job_id)
    assert site.job(job.job_id).state is JobState.DONE


def test_an_engine_that_cannot_be_loaded_is_a_failure(tmp_path: Path, site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    broken = tmp_path / "engines" / ENGINE
    shutil.copytree(ROOT / "engines" / ENGINE, broken)
    (broken / "model.onnx").write_bytes(b"something else")
    node = site.config.node.model_copy(update={"engines_dir": broken.parent})
    config = site.config.model_copy(update={"node": node})
    Worker(config, site.ledger, site.store, site.clock, site.passed.append).do(job.job_id)
    assert site.job(job.job_id).state is JobState.PARKED  # no repetition mends it
    assert "SHA-256" in site.job(job.job_id).reason


# ---------------------------------------------------------------- outdated


def test_a_series_that_changed_since_is_not_mixed_with_the_old_one(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    site.receive(make_xray(number=2))
    site.worker.do(job.job_id)
    assert site.job(job.job_id).state is JobState.SUPERSEDED
    assert site.job(job.job_id).reason.startswith("its series got another instance")
    assert site.ledger.results.of_job(job.job_id) == []
    new = site.route()
    assert new.job_id != job.job_id
    site.worker.do(new.job_id)
    assert site.job(new.job_id).state is JobState.DONE


def test_an_engine_of_another_version_does_not_work_off_the_old_ones_jobs(site: Site) -> None:
    site.receive(make_xray())
    job = site.route()
    engine = BrokenEngine(EngineError("must not be run"))
    engine.manifest = replace(engine.manifest, version="9.0.0")
    site.worker._engines[ENGINE] = engine  # type: ignore[assignment]
    site.worker.do(job.job_id)
    assert site.job(job.job_id).state is JobState.PARKED
    assert "(now 9.0.0)" in site.job(job.job_id).reason
    assert "restart the node" in site.job(job.job_id).reason
