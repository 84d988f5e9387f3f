"""The instances of one series, put together by what rules ask of them.

They differ in their number and their place, and agree in nearly all that rules ask for; so a rule
is asked once for all that agree, not once for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_node.conditions import Outcome
from dicom_node.route.facts import InstanceFacts
from dicom_node.route.rules import Rule

_Agreeing = list[list[InstanceFacts]]


class Instances:
    """Instances that rules can be asked of."""

    def __init__(self, instances: Sequence[InstanceFacts]) -> None:
        self._instances = instances
        self._agreeing: dict[frozenset[str], _Agreeing] = {}

    def judged(self, rule: Rule) -> Iterator[tuple[Outcome, list[InstanceFacts]]]:
        """Yield what a rule says, with the instances of which it says so; none without instances.

        Those that are said of together have the same priority too.
        """
        asked = rule.keywords
        agreeing = self._agreeing.get(asked)
        if agreeing is None:
            agreeing = self._agreeing[asked] = self._put_together(tuple(asked))
        for of_these in agreeing:
            yield rule.when.check(of_these[0].attributes), of_these

    def _put_together(self, keywords: tuple[str, ...]) -> _Agreeing:
        by_values: dict[tuple[tuple[str, ...], ...], list[InstanceFacts]] = {}
        for instance in self._instances:
            attributes = instance.attributes
            values = tuple([attributes.get(keyword, ()) for keyword in keywords])
            by_values.setdefault(values, []).append(instance)
        return list(by_values.values())
