"""Several jobs of one engine in one go: the results of single runs, and each by itself."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, InferSettings, NodeSettings
from dicom_node.errors import EngineError
from dicom_node.infer.engine import load_engine
from dicom_node.infer.manifest import load_manifest
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.lifecycle import JobState
from dicom_node.model import Job
from dicom_node.route.router import EngineLabel
from dicom_node.store.local import LocalStore
from dicom_node.worker import Worker
from tests import factories
from tests.factories import make_xray
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.route import made

ENGINES = Path(__file__).parents[2] / "engines"
ENGINE = "cxr_pneumonia"
RULE = made.engine_rule("chest", {"Modality": "CR"}, ENGINE)


class Ward:
    """A ledger and a store with a chest X-ray of each of some patients, routed; and workers."""

    def __init__(self, folder: Path) -> None:
        node = NodeSettings(data_dir=folder / "data", engines_dir=ENGINES)
        self.config = Config(node=node, infer=InferSettings(threads=1, retry_first_s=10))
        self.ledger = rows.new_ledger(folder)
        self.store = LocalStore(self.config.node.data_dir)
        self.clock = HandClock()

    def worker(self, checkpoint: Callable[[str], None] = lambda name: None) -> Worker:
        return Worker(self.config, self.ledger, self.store, self.clock, checkpoint)

    def receive(self, number: int, **changes: Any) -> str:
        """Store the X-ray of a patient, which differs from any other's; return its study."""
        study = f"{factories.STUDY}.{number}"
        pixels = make_xray().pixel_array.astype(np.uint16)
        pixels[number * 16 : number * 16 + 60, 40:160] += np.uint16(90 + 10 * number)
        given = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", **changes}
        self.store_instance(make_xray(pixels, **given))
        return study

    def store_instance(self, dataset: Dataset) -> None:
        file = factories.write(dataset, self.store.path(f"instances/{dataset.SOPInstanceUID}.dcm"))
        self.ledger.studies.instance_stored(
            rows.an_instance(
                sop_instance_uid=str(dataset.SOPInstanceUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                path=str(file.relative_to(self.store.root)),
                digest=hashlib.sha256(file.read_bytes()).hexdigest(),
            )
        )

    def route(self) -> list[str]:
        """Complete and route every study; return the jobs in the order of the studies."""
        for evidence in self.ledger.studies.receiving():
            self.ledger.studies.completed(evidence, "quiet", 900.0)
        manifest = load_manifest(ENGINES / ENGINE)
        labels = {ENGINE: EngineLabel(manifest.version, manifest.model_digest)}
        made.router(self.ledger, self.store, (RULE,), labels, self.clock).turn()
        jobs = self.ledger.jobs.in_states(JobState.QUEUED)
        return [job.job_id for job in sorted(jobs, key=lambda job: job.study_instance_uid)]

    def job(self, job_id: str) -> Job:
        return rows.job_of(self.ledger, job_id)

    def states(self, job_ids: list[str]) -> list[str]:
        return [self.job(job_id).state.value for job_id in job_ids]

    def results(self) -> dict[str, bytes]:
        folder = self.store.root / "results"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.dcm")}


@pytest.fixture(autouse=True)
def no_tracebacks_drawn() -> Iterator[None]:
    with capture_logs():
        yield


@pytest.fixture
def ward(tmp_path: Path) -> Iterator[Ward]:
    ward = Ward(tmp_path)
    yield ward
    ward.ledger.close()


def test_the_results_are_byte_for_byte_those_of_single_runs(ward: Ward) -> None:
    for number in range(5):
        ward.receive(number)
    jobs = ward.route()
    together = ward.worker()
    for _ in range(4):  # until five at once are trusted
        together.do(*jobs)
        batched = ward.results()
        assert (ward.states(jobs), len(batched)) == (["DONE"] * 5, 5)
        forget(ward)
    assert together._batches[ENGINE].images_max == 16  # it was asked about all at once
    for job in jobs:
        ward.worker().do(job)
    assert ward.results() == batched
    assert ward.states(jobs) == ["DONE"] * 5
    assert len({ward.job(job).facts["probability"] for job in jobs}) == 5


def forget(ward: Ward) -> None:
    """Have every job done anew, as if nothing had come of it."""
    for name in ward.results():
        ward.store.path(f"results/{name}").unlink()
    database = Database(f"sqlite:///{ward.store.root.parent / 'ledger.sqlite'}")
    with database.writing() as connection:
        for table in (schema.deliveries, schema.results):
            connection.execute(table.delete())
        connection.execute(schema.jobs.update().values(state="QUEUED"))
    database.close()


def test_what_is_refused_or_fails_touches_no_other(ward: Ward) -> None:
    ward.receive(0)
    ward.receive(1, BodyPartExamined="ARM")
    ward.receive(2)
    lost = ward.receive(3)
    ward.receive(4)
    jobs = ward.route()
    [instance] = ward.ledger.studies.instances(lost)
    ward.store.path(instance.path).unlink()
    ward.worker().do(*jobs)
    assert ward.states(jobs) == ["DONE", "REFUSED", "DONE", "QUEUED", "DONE"]
    assert "BodyPartExamined is ARM" in ward.job(jobs[1]).reason
    assert ward.job(jobs[3]).failures == 1


def test_what_is_superseded_meanwhile_is_dropped_and_the_rest_is_done(ward: Ward) -> None:
    studies = [ward.receive(number) for number in range(3)]
    jobs = ward.route()
    changed = make_xray(number=2, StudyInstanceUID=studies[1], SeriesInstanceUID=f"{studies[1]}.1")
    passed: list[str] = []

    def change_it(name: str) -> None:
        passed.append(name)
        if passed.count(f"infer.started:{ENGINE}") == 3 and len(passed) == 3:
            ward.store_instance(changed)

    ward.worker(change_it).do(*jobs)
    assert ward.states(jobs) == ["DONE", "SUPERSEDED", "DONE"]
    assert passed.count("infer.inferred") == 2
    assert ward.ledger.jobs.results(jobs[1]) == []


def test_what_can_no_longer_be_had_is_left_out(ward: Ward) -> None:
    for number in range(3):
        ward.receive(number)
    jobs = ward.route()
    rows.started(ward.ledger, jobs[0])
    ward.worker().do("unknown", *jobs)
    assert ward.states(jobs) == ["RUNNING", "DONE", "DONE"]
    assert ward.job(jobs[0]).attempt == 1


def test_an_engine_that_cannot_be_loaded_ends_each_job_by_itself(
    ward: Ward, tmp_path: Path
) -> None:
    for number in range(2):
        ward.receive(number)
    jobs = ward.route()
    broken = tmp_path / "engines" / ENGINE
    shutil.copytree(ENGINES / ENGINE, broken)
    (broken / "model.onnx").write_bytes(b"something else")
    node = ward.config.node.model_copy(update={"engines_dir": broken.parent})
    ward.config = ward.config.model_copy(update={"node": node})
    ward.worker().do(*jobs)
    assert ward.states(jobs) == ["PARKED", "PARKED"]


def test_a_network_that_fails_on_many_is_asked_one_by_one(ward: Ward) -> None:
    for number in range(3):
        ward.receive(number)
    jobs = ward.route()
    worker = ward.worker()
    engine = load_engine(ENGINES / ENGINE, threads=1)
    run = engine._main.run

    class OneByOne:
        description, inputs, outputs = "one", engine._main.inputs, engine._main.outputs

        def run(self, arrays: Any) -> Any:
            if len(next(iter(arrays.values()))) > 1:
                raise EngineError("Got invalid dimensions")
            return run(arrays)

        def close(self) -> None: ...

    worker._engines[ENGINE] = type(engine)(engine.manifest, OneByOne())
    worker.do(*jobs)
    assert ward.states(jobs) == ["DONE"] * 3
    assert worker._batches[ENGINE].images_max == 1


def test_each_job_tells_what_its_own_images_took(ward: Ward) -> None:
    for number in range(3):
        ward.receive(number)
    jobs = ward.route()
    ward.worker().do(*jobs)
    for job in jobs:
        seconds = ward.job(job).seconds
        assert set(seconds) == {"infer", "encode", "work"}
        assert 0 < seconds["infer"] <= seconds["work"]
