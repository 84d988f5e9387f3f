"""The originals that rules send away: one forward for each destination and profile."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dicom_node.model import Attributes, Forward, InstanceKey, Priority
from dicom_node.route.rules import Rule, RuleSet

_REQUESTED = {"STAT": Priority.STAT, "HIGH": Priority.HIGH, "LOW": Priority.LOW}


def priority_of(rule: Rule, attributes: Attributes) -> Priority:
    """Return the priority of what a rule orders; MEDIUM and what is no priority are routine."""
    if rule.priority is not None:
        return rule.priority
    requested = [v.strip().upper() for v in attributes.get("RequestedProcedurePriority", ())]
    return min((_REQUESTED[v] for v in requested if v in _REQUESTED), default=Priority.ROUTINE)


@dataclass
class _Way:
    """What goes to one destination by one profile, so far."""

    priority: Priority = Priority.LOW
    rules: set[str] = field(default_factory=set)
    instances: set[InstanceKey] = field(default_factory=set)


class Forwards:
    """Collects what rules forward, whichever asks first.

    A forward has the name of the first of its rules as they stand in the file, and its instances
    in the order of their UIDs.
    """

    def __init__(self, rules: RuleSet) -> None:
        self._places = {name: place for place, name in enumerate(rules.names)}
        self._ways: dict[tuple[str, str], _Way] = {}

    def add(self, rule: Rule, attributes: Attributes, instances: Iterable[InstanceKey]) -> None:
        """Forward instances as a rule says; one that forwards nothing adds nothing."""
        if rule.forward is None:
            return
        priority = priority_of(rule, attributes)
        for destination in rule.forward.destinations:
            way = self._ways.setdefault((destination, rule.forward.profile), _Way(priority))
            way.priority = min(way.priority, priority)
            way.rules.add(rule.name)
            way.instances.update(instances)

    def made(self) -> tuple[Forward, ...]:
        """Return the forwards, those of the first rules first."""
        forwards = [
            Forward(
                destination,
                profile,
                way.priority,
                min(way.rules, key=self._places.__getitem__),
                tuple(sorted(way.instances)),
            )
            for (destination, profile), way in self._ways.items()
        ]
        place = self._places
        return tuple(sorted(forwards, key=lambda f: (place[f.rule], f.destination, f.profile)))
