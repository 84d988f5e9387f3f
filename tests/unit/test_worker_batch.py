"""Several jobs of one engine in one go: the results of single runs, and each by itself."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.errors import EngineError
from dicom_node.infer.asking import Networks
from dicom_node.infer.engine_loading import load_engine
from tests.factories import make_xray
from tests.unit.ledger import rows
from tests.unit.ward import ENGINE, ENGINES, Ward


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
        ward.forget()
    assert together._batches[ENGINE].images_max == 16  # it was asked about all at once
    for job in jobs:
        ward.worker().do(job)
    assert ward.results() == batched
    assert ward.states(jobs) == ["DONE"] * 5
    assert len({ward.job(job).facts["probability"] for job in jobs}) == 5


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
    assert ward.ledger.results.of_job(jobs[1]) == []


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
    (network,) = engine._networks.main
    run = network.run

    class OneByOne:
        description, inputs, outputs = "one", network.inputs, network.outputs

        def run(self, arrays: Any) -> Any:
            if len(next(iter(arrays.values()))) > 1:
                raise EngineError("Got invalid dimensions")
            return run(arrays)

        def close(self) -> None: ...

    worker._engines[ENGINE] = type(engine)(engine.manifest, Networks((OneByOne(),)))
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
