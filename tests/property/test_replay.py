"""What a replay of the rules in force says is what the live router did, whatever they are."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_node.history.keeper import HeaderKeeper
from dicom_node.history.keywords import KeepPolicy
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.headers import KeptHeader
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.route.decision import record_of
from dicom_node.route.gather import Gatherer
from dicom_node.route.replay import replay
from dicom_node.route.router import EngineLabel, Router
from dicom_node.route.rules import EngineOrder, ForwardOrder, Level, Rule, RuleSet
from dicom_node.store.local import LocalStore
from tests.unit.ledger import rows
from tests.unit.route.made import when

HEADERS = st.fixed_dictionaries(
    {
        "Modality": st.sampled_from([("CT",), ("MR",), ()]),
        "SliceThickness": st.sampled_from([("1.0",), ("5",), ("thin",), ()]),
        "ImageType": st.sampled_from([("ORIGINAL", "AXIAL"), ("DERIVED", "LOCALIZER")]),
    }
)
CONDITIONS: st.SearchStrategy[dict[str, Any]] = st.recursive(
    st.sampled_from(
        [
            {"Modality": "CT"},
            {"Modality": ["MR", "absent"]},
            {"SliceThickness": "<= 2"},
            {"SliceThickness": {"is": "2 .. 6", "missing": "parks"}},
            {"ImageType": "LOCALIZER"},
            {"instance_count": ">= 2"},
            {"peer": "scanner"},
            {"time_of_day": "00:00 .. 12:00"},
            {"a.outcome": "done"},
            {},
        ]
    ),
    lambda inner: st.one_of(
        inner.filter(bool).map(lambda one: {"not": one}),
        st.lists(inner, min_size=1, max_size=2).map(lambda several: {"any": several}),
    ),
    max_leaves=3,
)


@st.composite
def rule_sets(draw: st.DrawFn) -> RuleSet:
    rules = []
    for number in range(draw(st.integers(1, 5))):
        conditions = when(draw(CONDITIONS))
        name = f"rule-{number}"
        waits = any("." in keyword for keyword in conditions.keywords())
        does = draw(st.sampled_from(["run", "forward", "drop", "hold", "notify"]))
        levels = [Level.SERIES, Level.STUDY] if waits else list(Level)
        level = draw(st.sampled_from(levels))
        if does == "run":
            engine = "b" if waits else draw(st.sampled_from(["a", "b"]))
            order = (EngineOrder(engine),)
            rules.append(Rule(name, conditions, engines=order, destinations=("archive",)))
        elif does == "forward":
            rules.append(Rule(name, conditions, level, forward=ForwardOrder(("research",))))
        elif does == "drop" and not waits:
            rules.append(Rule(name, conditions, level, drop="of no use"))
        elif does == "hold" and level is not Level.INSTANCE:
            rules.append(Rule(name, conditions, level, hold="look at it"))
        else:
            rules.append(Rule(name, conditions, level, notify="look at it"))
    return RuleSet(tuple(rules), text="as drawn")


@settings(max_examples=40, deadline=None, derandomize=True)
@given(rules=rule_sets(), studies=st.lists(st.lists(HEADERS, min_size=1, max_size=5), max_size=3))
def test_a_replay_of_the_rules_in_force_is_what_the_router_did(
    rules: RuleSet, studies: list[list[dict[str, tuple[str, ...]]]]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ledger = rows.new_ledger(folder)
        policy = KeepPolicy(rules.keywords, key=b"of the tests")
        keeper = HeaderKeeper(ledger, LocalStore(folder / "data"), policy)
        gatherer = Gatherer(ledger, keeper, {"SCANNER": "scanner"})
        for number, headers in enumerate(studies, 1):
            _receive(ledger, policy, f"1.2.{number}", headers)
        labels = {"a": EngineLabel("1.0.0", "a" * 64), "b": EngineLabel("1.0.0", "b" * 64)}
        router = Router(ledger, gatherer, rules, labels, lambda: 1000.0)
        router.turn()

        routed = ledger.studies.complete_since(0.0)
        assert len(routed) == len(studies)
        facts = [gatherer.study(study, rules.keywords) for study in routed]
        found = replay(rules, rules, facts)
        assert found.changed == []
        assert not any(rule.gained or rule.lost for rule in found.rules.values())
        for study in routed:
            [live] = ledger.routing.decisions(study.study_instance_uid)
            _, decision = router.examine(study)
            assert live.decided == record_of(decision)
        jobs = [job for s in routed for job in ledger.jobs.of_study(s.study_instance_uid)]
        counted = {name: load.now for name, load in found.engines.items()}
        assert counted == {
            name: sum(job.engine_name == name for job in jobs)
            for name in {job.engine_name for job in jobs}
        }
        ledger.close()


def _receive(
    ledger: Ledger, policy: KeepPolicy, uid: str, headers: list[dict[str, tuple[str, ...]]]
) -> None:
    """Receive and complete a study of these headers, without any file."""
    association = rows.open_association(ledger, f"association-{uid}")
    instances: list[Instance] = []
    kept = []
    for number, attributes in enumerate(headers, 1):
        series_uid = f"{uid}.{number % 2}"
        instance = rows.an_instance(
            number,
            study_instance_uid=uid,
            series_instance_uid=series_uid,
            association_id=association,
        )
        instances.append(instance)
        kept.append(
            KeptHeader(
                series_uid,
                instance.sop_instance_uid,
                instance.digest,
                policy.kept(attributes),
                policy.keywords,
            )
        )
    ledger.arrivals.record(instances, "0", (1, 0))
    ledger.headers.keep(uid, kept, policy.keywords)
    ledger.associations.closed(association, AssociationEnd.RELEASED, 200.0)
    [evidence] = [e for e in ledger.studies.receiving() if e.study_instance_uid == uid]
    assert ledger.studies.completed(evidence, "quiet", 300.0)
