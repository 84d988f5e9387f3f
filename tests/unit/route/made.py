"""Rules and facts for tests, in few words."""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.conditions import All, parse_rule_conditions
from dicom_node.history.keeper import HeaderKeeper
from dicom_node.history.keywords import KeepPolicy
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Attributes, Instance, InstanceKey, Priority
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts
from dicom_node.route.gather import Gatherer
from dicom_node.route.router import EngineLabel, Router
from dicom_node.route.rules import EngineOrder, Rule, RuleSet
from dicom_node.store.local import LocalStore

SECRET = b"secret of the tests"


def when(written: Mapping[str, object]) -> All:
    """Return conditions as rules.yaml has them; they must have no mistake."""
    conditions, mistakes = parse_rule_conditions(written)
    assert mistakes == ()
    return conditions


def engine_rule(
    name: str,
    written: Mapping[str, object],
    *engines: str,
    to: tuple[str, ...] = ("archive",),
    priority: Priority | None = Priority.ROUTINE,
) -> Rule:
    """Return a rule that runs engines on a series."""
    orders = tuple(EngineOrder(engine) for engine in engines)
    return Rule(name, when(written), engines=orders, destinations=to, priority=priority)


def series(number: int = 1, count: int = 3, **header: str) -> SeriesFacts:
    """Return a series of instances with the same header; `Modality` is CT unless said."""
    attributes: Attributes = {
        keyword: (value,) for keyword, value in {"Modality": "CT", **header}.items()
    }
    instances = tuple(
        InstanceFacts(f"1.2.{number}.{i}", f"digest-{number}-{i}", attributes, "SCANNER")
        for i in range(1, count + 1)
    )
    return SeriesFacts(f"1.2.{number}", instances)


def study(*of: SeriesFacts, **changes: object) -> StudyFacts:
    return StudyFacts("1.2", of, **changes)  # type: ignore[arg-type]


def router(
    ledger: Ledger,
    store: LocalStore,
    rules: tuple[Rule, ...],
    engines: Mapping[str, EngineLabel],
    clock: Clock,
    checkpoint: Checkpoint = pass_checkpoint,
) -> Router:
    """Return a router on a ledger and a store."""
    rule_set = RuleSet(rules, text="the rules of a test")
    keeper = HeaderKeeper(ledger, store, KeepPolicy(rule_set.keywords, key=SECRET))
    gatherer = Gatherer(ledger, keeper, {"SCANNER": "scanner"})
    return Router(ledger, gatherer, rule_set, engines, clock, checkpoint)


def key_of(instance: Instance) -> InstanceKey:
    return InstanceKey(instance.series_instance_uid, instance.sop_instance_uid, instance.digest)
