"""What follow-on rules know of a series: what was found, what is still to come, what must wait.

A condition on a finding is unknown while its engine is to run and has not come to its end; if no
rule has the engine run on the series, there is no finding and the attribute is missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dicom_node.conditions import Answer
from dicom_node.conditions.tree import PENDING
from dicom_node.model import Attributes
from dicom_node.route.facts import SeriesFacts
from dicom_node.route.rules import Rule

POSSIBLE = (Answer.YES, Answer.UNKNOWN)


def finding_attributes(
    rules: Iterable[Rule], findings: Mapping[str, Attributes], pending: Iterable[str]
) -> Attributes:
    """Return the findings as the attributes that the conditions of these rules ask for."""
    known = {
        f"{engine}.{fact}": values
        for engine, facts in findings.items()
        for fact, values in facts.items()
    }
    waiting = set(pending)
    for rule in rules:
        for keyword in rule.when.keywords():
            engine, dot, _ = keyword.partition(".")
            if dot and engine in waiting:
                known[keyword] = (PENDING,)
    return known


def pending_engines(
    rules: Sequence[Rule], awaited: Iterable[str], series: SeriesFacts, attributes: Attributes
) -> set[str]:
    """Return those of the awaited engines that are to run on a series and are not at their end.

    At first all could be; those that no rule still asks for, or that a stop rules out, fall away,
    and with them what hangs on them.

    Parameters
    ----------
    rules : sequence of Rule
        All on series that do not drop.
    """
    pending = set(awaited) - series.findings.keys()
    while pending:
        tried = {**attributes, **finding_attributes(rules, series.findings, pending)}
        answers = [(rule, rule.when.check(tried).answer) for rule in rules]
        possible = {
            order.engine for rule, answer in answers if answer in POSSIBLE for order in rule.engines
        }
        if any(rule.stop and answer is Answer.YES for rule, answer in answers):
            possible &= not_stopped(answers, rules) or set()
        if pending <= possible:
            break
        pending &= possible
    return pending


def not_stopped(answers: Iterable[tuple[Rule, Answer]], rules: Sequence[Rule]) -> set[str] | None:
    """Return the engines that may begin in spite of a stop, decided or not; None if there is none.

    They are those on whose findings the stops depend, and what these depend on in their turn.
    """
    stops = [rule for rule, answer in answers if rule.stop and answer in POSSIBLE]
    if not stops:
        return None
    needed, more = set[str](), {engine for rule in stops for engine in rule.awaits}
    while more:
        needed |= more
        more = {
            engine
            for rule in rules
            if any(order.engine in more for order in rule.engines)
            for engine in rule.awaits
        } - needed
    return needed
