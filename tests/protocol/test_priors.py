"""A whole node fetches prior studies before an engine runs, and does without where it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from dicom_node.harness.query_archive import QueryArchive
from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import FetchState, JobState, StudyState
from dicom_node.model import Job, Study
from dicom_node.priors import PriorFetch
from tests.factories import make_ct_series, make_xray, write, write_series
from tests.node_process import NodeProcess, wait_until

HOST = "127.0.0.1"
CURRENT = "1.2.100"
LAST_YEAR, YEAR_BEFORE, LONG_AGO, ANOTHERS = "1.2.201", "1.2.202", "1.2.203", "1.2.204"
IDENTITY = ("SECRET-ID", "Secret^Patient", "19450607", "OTHER-ID")

RULES: dict[str, Any] = {
    "rules": [
        {
            "name": "quality",
            "when": {"Modality": "CR"},
            "engines": ["cxr_quality"],
            "destinations": ["archive"],
            "priors": {
                "from": "archive",
                "modalities": ["CT"],
                "within_days": 1000,
                "wait_s": 60,
            },
        },
        {"name": "every-ct", "when": {"Modality": "CT"}, "notify": "a CT came"},
    ]
}


@dataclass
class Site:
    """An archive with a patient's studies, and a node that asks it."""

    folder: Path
    port: int
    archive: QueryArchive
    nodes: list[NodeProcess] = field(default_factory=list)
    ledgers: list[Ledger] = field(default_factory=list)

    def node(self, retrieve: str = "move", **priors: Any) -> NodeProcess:
        rules = json.loads(json.dumps(RULES))
        rules["rules"][0]["priors"].update(priors)
        file = self.folder / "rules.yaml"
        file.write_text(yaml.safe_dump(rules))
        peers = {
            "archive": {
                "ae_title": "ARCHIVE",
                "host": HOST,
                "port": self.archive.port,
                "may_send": retrieve == "move",
                "retrieve": retrieve,
            },
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        }
        node = NodeProcess(
            self.folder / "node", self.port, node={"rules_file": str(file)}, peers=peers
        )
        self.nodes.append(node)
        return node

    @property
    def ledger(self) -> Ledger:
        if not self.ledgers:
            self.ledgers.append(self.nodes[-1].ledger())
        return self.ledgers[0]

    def send_current(self) -> None:
        """Send an X-ray of the patient to the node."""
        patient = patient_of("20240601", CURRENT)
        file = write(make_xray(**patient), self.folder / "current.dcm")
        send([file], HOST, self.port, called="DICOM_NODE")

    def job(self, *states: JobState) -> Job:
        """Wait until the one job is in one of these states."""

        def is_there() -> bool:
            jobs = self.ledger.jobs.of_study(CURRENT)
            return bool(jobs) and jobs[0].state in states

        wait_until(is_there, 60.0, f"a job that is {' or '.join(states)}")
        [job] = self.ledger.jobs.of_study(CURRENT)
        return job

    def fetch(self, job: Job) -> PriorFetch:
        fetch = self.ledger.fetches.for_job(job.job_id)
        assert fetch is not None
        return fetch

    def routed(self, study_instance_uid: str) -> Study:
        def is_routed() -> bool:
            study = self.ledger.studies.get(study_instance_uid)
            return study is not None and study.state is StudyState.ROUTED

        wait_until(is_routed, 30.0, "routing")
        study = self.ledger.studies.get(study_instance_uid)
        assert study is not None
        return study

    def events(self) -> list[str]:
        """Return the reason of every event."""
        names = ("CREATED", "STARTED", "CAME", "POSTPONED", "GIVEN_UP", "WITHOUT_PRIORS", "ROUTED")
        return [event.reason for name in names for event in self.ledger.events.named(name)]


def patient_of(study_date: str, study_instance_uid: str, patient_id: str = "SECRET-ID") -> Any:
    return {
        "PatientID": patient_id,
        "PatientName": "Secret^Patient",
        "PatientBirthDate": "19450607",
        "StudyDate": study_date,
        "StudyInstanceUID": study_instance_uid,
        "SeriesInstanceUID": f"{study_instance_uid}.1",
    }


@pytest.fixture
def site(tmp_path: Path, free_port: int) -> Iterator[Site]:
    """An archive with three CT of the patient, one of another, and a node to be started."""
    destinations = {"DICOM_NODE": (HOST, free_port)}
    with QueryArchive(tmp_path / "archive", destinations=destinations) as archive:
        files = []
        for uid, date, patient in (
            (LAST_YEAR, "20230601", "SECRET-ID"),
            (YEAR_BEFORE, "20220601", "SECRET-ID"),
            (LONG_AGO, "20150601", "SECRET-ID"),
            (ANOTHERS, "20230901", "OTHER-ID"),
        ):
            series = make_ct_series(4, **patient_of(date, uid, patient))
            files += write_series(series, tmp_path / uid)
        send(files, HOST, archive.port, called="ARCHIVE")
        site = Site(tmp_path, free_port, archive)
        yield site
        for ledger in site.ledgers:
            ledger.close()
        for node in site.nodes:
            assert node.stop() == 0


def studies_held(site: Site) -> set[str]:
    everything = site.ledger.studies.in_states(list(StudyState))
    return {study.study_instance_uid for study in everything}


def assert_nobody_is_named(site: Site) -> None:
    told = "\n".join([site.nodes[-1].log(), *site.events()])
    assert [word for word in IDENTITY if word in told] == []


@pytest.mark.parametrize("retrieve", ["move", "get"])
def test_the_right_prior_is_here_before_the_engine_runs(retrieve: str, site: Site) -> None:
    node = site.node(retrieve).start()
    site.send_current()
    job = site.job(JobState.DONE)
    fetch = site.fetch(job)
    assert fetch.state is FetchState.FETCHED
    assert fetch.reason == (
        f"1 of 2 studies that were found: {LAST_YEAR} of 20230601; 1 newer one is enough (1)"
    )
    assert site.ledger.fetches.of_job(job.job_id) == (LAST_YEAR,)
    moments = {e.event: e.at for e in site.ledger.events.of(job.job_id)}
    instances = site.ledger.studies.instances(LAST_YEAR)
    assert len(instances) == 4
    assert all(instance.received_at < moments["STARTED"] for instance in instances)
    assert site.ledger.events.named("WITHOUT_PRIORS") == []

    prior = site.routed(LAST_YEAR)
    assert prior.reason == f"fetched as a prior study of {CURRENT}"
    assert site.ledger.events.named("NOTICE") == []
    assert studies_held(site) == {CURRENT, LAST_YEAR}
    told = node.run_cli("explain", CURRENT).stdout
    assert f"prior studies p{fetch.fetch_id} from archive, FETCHED: 1 of 2 studies" in told
    assert "fetched as a prior study" in node.run_cli("explain", LAST_YEAR).stdout
    held = {one.sop_instance_uid: one for one in site.archive.received()}
    for instance in instances:
        assert held[instance.sop_instance_uid].transfer_syntax_uid == instance.transfer_syntax_uid
    assert_nobody_is_named(site)


def test_an_archive_that_is_down_costs_the_wait_and_no_result(site: Site) -> None:
    site.node(wait_s=3.5).start()
    site.archive.stop()
    site.send_current()
    job = site.job(JobState.RUNNING, JobState.DONE)
    [without] = site.ledger.events.named("WITHOUT_PRIORS")
    assert without.subject == job.job_id
    assert without.reason.startswith("without prior studies: ")
    assert "cannot be reached" in without.reason
    assert site.fetch(job).state is FetchState.DEAD
    assert len(site.ledger.events.named("POSTPONED")) > 1  # it was tried more than once
    assert_nobody_is_named(site)


def test_an_archive_that_does_not_know_us_costs_no_wait(site: Site) -> None:
    site.archive.destinations.clear()
    node = site.node(wait_s=600).start()
    site.send_current()
    job = site.job(JobState.DONE)
    fetch = site.fetch(job)
    assert fetch.state is FetchState.DEAD
    assert "0xA801" in fetch.reason
    assert "have it know the AE title" in fetch.reason
    [item] = [
        i
        for i in json.loads(node.run_cli("status", "--json").stdout)["open"]
        if i["what"] == "priors"
    ]
    assert (item["name"], item["state"]) == (f"p{fetch.fetch_id}", "DEAD")

    site.archive.destinations["DICOM_NODE"] = (HOST, site.port)
    assert "is tried again" in node.run_cli("retry", f"p{fetch.fetch_id}").stdout
    wait_until(lambda: site.fetch(job).state is FetchState.FETCHED, 30.0, "the prior")
    assert site.routed(LAST_YEAR).reason == f"fetched as a prior study of {CURRENT}"


@pytest.mark.parametrize(
    ("kill_at", "nth", "retrieve"),
    [
        ("prior.sent", 1, "move"),
        ("store.saved", 2, "get"),  # the second instance is a file, and has no row
        ("prior.came", 1, "get"),
    ],
)
def test_a_node_that_is_killed_while_it_fetches_goes_on(
    kill_at: str, nth: int, retrieve: str, site: Site
) -> None:
    node = site.node(retrieve).start(kill_at, nth)
    site.send_current()
    node.wait_killed()
    node.start()
    job = site.job(JobState.DONE)
    assert site.fetch(job).state is FetchState.FETCHED
    assert site.ledger.fetches.of_job(job.job_id) == (LAST_YEAR,)
    assert site.ledger.studies.instance_count(LAST_YEAR) == 4
    assert site.routed(LAST_YEAR).reason == f"fetched as a prior study of {CURRENT}"
    assert site.ledger.events.named("REPLACED") == []


def test_a_study_that_came_by_itself_is_a_prior_and_routed_all_the_same(site: Site) -> None:
    node = site.node().start()
    send(sorted((site.folder / LAST_YEAR).glob("*.dcm")), HOST, node.port, called="DICOM_NODE")
    assert "prior study" not in site.routed(LAST_YEAR).reason
    assert len(site.ledger.events.named("NOTICE")) == 1
    site.send_current()
    job = site.job(JobState.DONE)
    [prior] = site.ledger.fetches.priors(site.fetch(job).fetch_id)
    assert prior.was_held
    assert site.ledger.studies.retry(LAST_YEAR, 0.0)
    assert "prior study" not in site.routed(LAST_YEAR).reason
