"""The route stage on a real ledger and store: a complete study becomes jobs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from structlog.testing import capture_logs

from dicom_node.lifecycle import JobState, StudyState
from dicom_node.model import Instance, Priority
from dicom_node.route.router import EngineLabel, Router, input_of, job_id
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule
from dicom_node.store.local import LocalStore
from tests import factories
from tests.factories import make_ct_series, make_xray
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.route import made
from tests.unit.route.made import engine_rule

LUNGS = engine_rule("lungs", {"Modality": "CT"}, "ct_lungs", priority=Priority.HIGH)
CHEST = engine_rule("chest", {"Modality": "CR"}, "cxr")
ENGINES = {"ct_lungs": EngineLabel("1.0.0", "a" * 64), "cxr": EngineLabel("2.0.0", "b" * 64)}


@dataclass
class Site:
    """A ledger, a store and a router, with the checkpoints that were passed."""

    folder: Path

    def __post_init__(self) -> None:
        self.ledger = rows.new_ledger(self.folder)
        self.store = LocalStore(self.folder / "data")
        self.clock = HandClock()
        self.passed: list[str] = []

    def router(self, *rules: Rule, engines: Mapping[str, EngineLabel] = ENGINES) -> Router:
        return made.router(
            self.ledger, self.store, rules or (LUNGS,), engines, self.clock, self.passed.append
        )

    def keep(self, dataset: Dataset, calling: str = "SCANNER") -> Instance:
        """Lay a file into the store and return its row."""
        path = f"instances/{dataset.SOPInstanceUID}.dcm"
        content = factories.write(dataset, self.store.path(path)).read_bytes()
        return rows.an_instance(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            study_instance_uid=str(dataset.StudyInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            path=path,
            digest=hashlib.sha256(content).hexdigest(),
            calling_ae_title=calling,
        )

    def complete(self, datasets: Sequence[Dataset]) -> None:
        rows.complete(self.ledger, *[self.keep(dataset) for dataset in datasets])


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with capture_logs():  # structlog draws tracebacks of the expected errors, which takes seconds
        yield site
    site.ledger.close()


def test_each_series_that_a_rule_matches_becomes_a_job(site: Site) -> None:
    site.complete([*make_ct_series(2), make_xray()])
    site.router(LUNGS, CHEST).turn()
    study = rows.study_of(site.ledger, factories.STUDY)
    assert study.state is StudyState.ROUTED
    assert study.reason == "lungs -> ct_lungs, chest -> cxr"
    urgent, routine = site.ledger.jobs.of_study(factories.STUDY)
    assert (urgent.engine_name, urgent.engine_version) == ("ct_lungs", "1.0.0")
    assert urgent.series_instance_uid == factories.CT_SERIES
    assert urgent.priority is Priority.HIGH
    assert urgent.destinations == ("archive",)
    assert urgent.state is JobState.QUEUED
    assert urgent.reason == "rule lungs: Modality is CT"
    assert urgent.created_at == urgent.not_before == site.clock.now
    assert routine.series_instance_uid == factories.XRAY_SERIES
    assert site.passed == ["route.decided", "route.recorded"]


def test_a_study_that_no_rule_matches_is_routed_and_says_why(site: Site) -> None:
    site.complete([make_xray(BodyPartExamined="ARM")])
    site.router(LUNGS).turn()
    study = rows.study_of(site.ledger, factories.STUDY)
    assert study.state is StudyState.ROUTED
    assert study.reason == "no rule matched (lungs: Modality is CR, not CT)"
    assert site.ledger.jobs.of_study(factories.STUDY) == []


def test_our_own_keywords_are_known_of_each_series(site: Site) -> None:
    site.complete(make_ct_series(3))
    facts, _ = site.router().examine(rows.study_of(site.ledger, factories.STUDY))
    [series] = facts.series
    assert series.attributes["instance_count"] == ("3",)
    assert series.attributes["calling_ae_title"] == ("SCANNER",)
    assert series.attributes["Modality"] == ("CT",)


def test_headers_that_cannot_be_parsed_are_counted_and_the_rest_decides(site: Site) -> None:
    series = make_ct_series(3)
    site.complete(series)
    site.store.path(f"instances/{series[1].SOPInstanceUID}.dcm").write_bytes(b"\xff" * 300)
    site.router().turn()
    study = rows.study_of(site.ledger, factories.STUDY)
    assert study.reason == "lungs -> ct_lungs; 1 instances cannot be parsed"
    [marked] = site.ledger.events.named("UNREADABLE")
    assert marked.subject_kind == "instance"
    assert marked.reason.startswith("its header cannot be parsed")


def test_a_study_of_which_nothing_can_be_parsed_is_routed_to_nothing(site: Site) -> None:
    [dataset] = make_ct_series(1)
    site.complete([dataset])
    site.store.path(f"instances/{dataset.SOPInstanceUID}.dcm").write_bytes(b"\xff" * 300)
    site.router().turn()
    assert rows.study_of(site.ledger, factories.STUDY).reason == (
        "no rule matched (lungs: Modality is absent, not CT); 1 instances cannot be parsed"
    )


def test_a_study_whose_file_is_gone_is_parked_and_holds_up_no_other(site: Site) -> None:
    """The oldest complete study is looked at first; it must not stand in the door."""
    lost = make_ct_series(1, StudyInstanceUID="1.2.8", SeriesInstanceUID="1.2.8.1")
    site.complete(lost)
    site.store.path(f"instances/{lost[0].SOPInstanceUID}.dcm").unlink()
    site.complete(make_ct_series(1))
    site.router().turn()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.ROUTED
    assert rows.study_of(site.ledger, "1.2.8").state is StudyState.PARKED


def test_a_file_that_the_disk_cannot_read_is_not_taken_for_a_broken_one(site: Site) -> None:
    """Only what was parsed and found broken may be left out of a decision for ever."""
    series = make_ct_series(2)
    site.complete(series)
    path = site.store.path(f"instances/{series[1].SOPInstanceUID}.dcm")
    path.unlink()
    path.mkdir()  # opening it is an OSError, even for root
    site.router().turn()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.PARKED


def test_two_turns_make_the_jobs_once(site: Site) -> None:
    site.complete(make_ct_series(2))
    site.router().turn()
    site.router().turn()
    assert len(site.ledger.jobs.of_study(factories.STUDY)) == 1


def test_an_instance_that_comes_while_we_decide_leaves_no_job(site: Site) -> None:
    series = make_ct_series(3)
    site.complete(series[:2])

    def one_arrives(name: str) -> None:
        if name == "route.decided":
            site.ledger.studies.instance_stored(site.keep(series[2]))

    router = made.router(site.ledger, site.store, (LUNGS,), ENGINES, site.clock, one_arrives)
    router.turn()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.RECEIVING
    assert site.ledger.jobs.of_study(factories.STUDY) == []


def test_examining_changes_nothing(site: Site) -> None:
    site.complete(make_ct_series(2))
    site.router().examine(rows.study_of(site.ledger, factories.STUDY))
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.COMPLETE


# ---------------------------------------------------------------- the name of a job


def name_of(
    instances: Sequence[Instance],
    engine: str,
    label: EngineLabel,
    parameters: Mapping[str, float] | None = None,
) -> str:
    return job_id(factories.STUDY, [made.key_of(i) for i in instances], engine, label, parameters)


def test_the_same_input_and_the_same_engine_are_the_same_job_in_any_order() -> None:
    instances = [rows.an_instance(number) for number in range(1, 5)]
    name = name_of(instances, "ct_lungs", ENGINES["ct_lungs"])
    assert len(name) == 32
    assert name_of(instances[::-1], "ct_lungs", ENGINES["ct_lungs"]) == name


def test_whatever_changes_the_answer_makes_another_job() -> None:
    label = ENGINES["ct_lungs"]
    instances = [rows.an_instance(1), rows.an_instance(2)]
    names = {
        name_of(instances, "ct_lungs", label),
        name_of(instances, "other", label),
        name_of(instances, "ct_lungs", EngineLabel("1.0.1", label.model_digest)),
        name_of(instances, "ct_lungs", EngineLabel(label.version, "c" * 64)),
        name_of(instances[:1], "ct_lungs", label),
        name_of([*instances, rows.an_instance(3)], "ct_lungs", label),
        name_of([instances[0], rows.an_instance(2, content="x")], "ct_lungs", label),
        name_of(instances, "ct_lungs", label, {"threshold": 0.5}),
        job_id("1.9", [made.key_of(i) for i in instances], "ct_lungs", label),
    }
    assert len(names) == 9


def test_when_and_from_whom_it_came_makes_no_other_job() -> None:
    label = ENGINES["ct_lungs"]
    one = rows.an_instance(1)
    same = rows.an_instance(1, received_at=9.0, calling_ae_title="PACS", association_id="a2")
    assert name_of([one], "ct_lungs", label) == name_of([same], "ct_lungs", label)


def test_an_engine_that_reads_the_study_works_anew_when_any_series_changes(site: Site) -> None:
    whole = {"ct_lungs": EngineLabel("1.0.0", "a" * 64, reads_study=True)}
    other = make_ct_series(2, SeriesInstanceUID="1.2.77", Modality="MR")
    for number, instance in enumerate(other):
        instance.SOPInstanceUID = f"1.2.77.{number}"
    site.complete(make_ct_series(2))
    site.router(LUNGS, engines=whole).turn()
    [first] = site.ledger.jobs.of_study(factories.STUDY)
    site.complete(other)
    site.router(LUNGS, engines=whole).turn()
    jobs = {job.job_id: job.state for job in site.ledger.jobs.of_study(factories.STUDY)}
    assert len(jobs) == 2
    assert jobs[first.job_id] is JobState.SUPERSEDED


def test_a_study_whose_engine_was_replaced_is_routed_again_at_the_next_start(site: Site) -> None:
    site.complete(make_ct_series(2))
    site.router(LUNGS).turn()
    [old] = site.ledger.jobs.of_study(factories.STUDY)
    newer = {"ct_lungs": EngineLabel("2.0.0", "other")}
    restarted = site.router(LUNGS, engines=newer)
    restarted.reroute_outdated()
    study = rows.study_of(site.ledger, factories.STUDY)
    assert study.state is StudyState.COMPLETE
    assert study.reason == "engine ct_lungs was replaced since the study was routed"
    restarted.turn()
    jobs = {job.engine_version: job.state for job in site.ledger.jobs.of_study(factories.STUDY)}
    assert jobs == {"1.0.0": JobState.SUPERSEDED, "2.0.0": JobState.QUEUED}
    assert old.engine_version == "1.0.0"
    restarted.reroute_outdated()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.ROUTED


def test_a_study_whose_engines_are_the_same_is_left_alone_at_the_next_start(site: Site) -> None:
    site.complete(make_ct_series(2))
    router = site.router(LUNGS)
    router.turn()
    router.reroute_outdated()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.ROUTED


# ---------------------------------------------------------------- at once

AT_ONCE = Rule(
    "at-once",
    made.when({"Modality": "CT"}),
    Level.INSTANCE,
    forward=ForwardOrder(("research",), at_once=True),
)


def unsent(site: Site, study_instance_uid: str = factories.STUDY) -> list[str]:
    """Return what is on its way, by the names of the instances."""
    return [
        key.sop_instance_uid
        for forward in site.ledger.forwards.of_study(study_instance_uid)
        for key in site.ledger.forwards.unsent(forward.forward_id, 100)
    ]


def test_an_instance_of_a_study_that_is_still_arriving_is_forwarded_once(site: Site) -> None:
    first, second = make_ct_series(2)
    router = site.router(AT_ONCE)
    rows.receive(site.ledger, site.keep(first))
    router.turn()
    router.turn()
    assert unsent(site) == [str(first.SOPInstanceUID)]
    rows.complete(site.ledger, site.keep(second))
    site.router(AT_ONCE).turn()  # after a restart nothing is known, and nothing doubled
    assert unsent(site) == [str(first.SOPInstanceUID), str(second.SOPInstanceUID)]
    assert len(site.ledger.forwards.of_study(factories.STUDY)) == 1


def test_a_file_that_is_gone_holds_up_no_other_study_at_once(site: Site) -> None:
    lost = make_ct_series(1, StudyInstanceUID="1.2.8", SeriesInstanceUID="1.2.8.1")[0]
    [kept] = make_ct_series(1)
    rows.receive(site.ledger, site.keep(lost), site.keep(kept))
    site.store.path(f"instances/{lost.SOPInstanceUID}.dcm").unlink()
    site.router(AT_ONCE).turn()
    assert unsent(site) == [str(kept.SOPInstanceUID)]
    assert rows.study_of(site.ledger, "1.2.8").state is StudyState.RECEIVING


def test_what_a_rule_drops_when_the_study_is_complete_is_not_sent_any_more(site: Site) -> None:
    first, second = make_ct_series(2)
    drop = Rule("few", made.when({"instance_count": "< 5"}), drop="too few to be of use")
    router = site.router(AT_ONCE, drop)
    rows.receive(site.ledger, site.keep(first))
    router.turn()
    assert unsent(site) == [str(first.SOPInstanceUID)]
    rows.complete(site.ledger, site.keep(second))
    router.turn()
    assert unsent(site) == []
    assert len(site.ledger.routing.dropped(factories.STUDY)) == 2


# ---------------------------------------------------------------- hold, drop, follow


def test_a_held_study_makes_nothing_until_a_person_retries_it(site: Site) -> None:
    site.complete(make_ct_series(2))
    hold = Rule("look", made.when({}), hold="somebody looks first")
    router = site.router(LUNGS, hold)
    router.turn()
    study = rows.study_of(site.ledger, factories.STUDY)
    assert (study.state, study.reason) == (StudyState.PARKED, "held by look: somebody looks first")
    assert site.ledger.jobs.of_study(factories.STUDY) == []
    assert site.ledger.studies.retry(factories.STUDY, site.clock())
    router.turn()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.ROUTED
    assert len(site.ledger.jobs.of_study(factories.STUDY)) == 1


def test_an_instance_that_comes_later_is_held_again(site: Site) -> None:
    first, second = make_ct_series(2)
    site.complete([first])
    router = site.router(LUNGS, Rule("look", made.when({}), hold="somebody looks first"))
    router.turn()
    site.ledger.studies.retry(factories.STUDY, site.clock())
    router.turn()
    rows.complete(site.ledger, site.keep(second))
    router.turn()
    assert rows.study_of(site.ledger, factories.STUDY).state is StudyState.PARKED


def test_a_job_is_given_only_what_is_not_dropped(site: Site) -> None:
    scout, *slices = make_ct_series(3)
    scout.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    site.complete([scout, *slices])
    drop = Rule(
        "scouts", made.when({"ImageType": "LOCALIZER"}), Level.INSTANCE, drop="no slice of it"
    )
    site.router(LUNGS, drop).turn()
    keys = input_of(site.ledger, factories.STUDY, factories.CT_SERIES)
    assert [key.sop_instance_uid for key in keys] == [str(one.SOPInstanceUID) for one in slices]
    [job] = site.ledger.jobs.of_study(factories.STUDY)
    assert job.job_id == job_id(factories.STUDY, keys, "ct_lungs", ENGINES["ct_lungs"])


def test_a_rule_that_waits_for_a_finding_is_decided_when_it_is_there(site: Site) -> None:
    site.complete(make_ct_series(2))
    small = Rule("small", made.when({"ct_lungs.volume_ml": "< 2000"}), notify="small lungs")
    router = site.router(LUNGS, small)
    router.turn()
    router.turn()  # nothing is found yet: nothing moves
    [job] = site.ledger.jobs.of_study(factories.STUDY)
    assert len(site.ledger.routing.decisions(factories.STUDY)) == 1
    running = rows.started(site.ledger, job.job_id, site.clock())
    found = {"volume_ml": ("1500",)}
    assert site.ledger.jobs.finish(running, [], "found", {}, site.clock(), found)
    for _ in range(3):
        router.turn()
    assert len(site.ledger.routing.decisions(factories.STUDY)) == 2
    [notice] = site.ledger.events.named("NOTICE")
    assert notice.reason == f"rule small: small lungs ({factories.CT_SERIES})"
    [same] = site.ledger.jobs.of_study(factories.STUDY)
    assert (same.job_id, same.state) == (job.job_id, JobState.DONE)


def test_a_finding_made_with_other_parameters_is_none(site: Site) -> None:
    """Rules were changed and the study routed again: what was found before is not what is asked."""
    site.complete(make_ct_series(2))
    site.router(LUNGS).turn()
    [job] = site.ledger.jobs.of_study(factories.STUDY)
    found = {"volume_ml": ("1500",)}
    running = rows.started(site.ledger, job.job_id, site.clock())
    assert site.ledger.jobs.finish(running, [], "found", {}, site.clock(), found)
    strict = replace(LUNGS, engines=(EngineOrder("ct_lungs", {"volume_min_ml": 100.0}),))
    small = Rule("small", made.when({"ct_lungs.volume_ml": "< 2000"}), notify="small lungs")
    router = site.router(strict, small)
    site.clock.now += 1
    assert site.ledger.studies.retry(factories.STUDY, site.clock())
    for _ in range(3):
        router.turn()
    assert site.ledger.events.named("NOTICE") == []
    assert len(site.ledger.routing.decisions(factories.STUDY)) == 2
    [again] = site.ledger.jobs.in_states(JobState.QUEUED)
    running = rows.started(site.ledger, again.job_id, site.clock())
    assert site.ledger.jobs.finish(running, [], "found", {}, site.clock(), found)
    for _ in range(3):
        router.turn()
    assert len(site.ledger.events.named("NOTICE")) == 1
    assert len(site.ledger.routing.decisions(factories.STUDY)) == 3
    # and back again: the first finding counts, and nobody waits for ever
    back = site.router(LUNGS, small)
    assert site.ledger.studies.retry(factories.STUDY, site.clock())
    for _ in range(3):
        back.turn()
    assert len(site.ledger.routing.decisions(factories.STUDY)) == 4
