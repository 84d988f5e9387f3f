"""`dicom-node rules`: look for what is wrong with rules, explain them, and replay history."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from dicom_node.cli.console import make_console, make_table
from dicom_node.config.loading import load_config
from dicom_node.errors import ConfigError, StudyUnusable
from dicom_node.ledger.ledger import Ledger
from dicom_node.plan import Plan, build_gatherer, load_plan
from dicom_node.route.facts import StudyFacts
from dicom_node.route.lint import lint as smells_of
from dicom_node.route.replay import Replay
from dicom_node.route.replay import replay as replay_rules
from dicom_node.route.rules import RuleSet
from dicom_node.route.rules_file import load_rules

_SINCE = re.compile(r"([0-9]+)\s*([dhm])")
_SECONDS = {"d": 86_400.0, "h": 3_600.0, "m": 60.0}
_UIDS_SHOWN = 3


def lint(config_file: Path) -> bool:
    """Print what looks wrong with the rules; return whether nothing does."""
    plan = load_plan(load_config(config_file))
    console = make_console(wraps=False)
    smells = smells_of(plan.rules)
    for smell in smells:
        console.print(str(smell), style="yellow")
    count = len(plan.rules.rules)
    console.print(f"{count} rules, {len(smells) or 'nothing'} to look at")
    return not smells


def replay(config_file: Path, new_file: Path | None, since: str, as_json: bool) -> None:
    """Print what rules would have done of late, against those by which studies were routed.

    Parameters
    ----------
    new_file : Path, optional
        A rules file to try with this configuration; without one, the configuration's own is tried.
    since : str
        How far back: 30d, 12h, 90m.

    Raises
    ------
    ConfigError
        If one of the files has a mistake, or `since` is none.
    """
    plan = load_plan(load_config(config_file))
    now_rules = plan.rules if new_file is None else load_rules(new_file, plan.names)
    ledger = Ledger(plan.config.ledger_url)
    ledger.require_current()
    before = _rules_in_force(plan, ledger)
    studies = _Studies(plan, (before, now_rules), ledger, time.time() - _seconds(since))
    console = make_console()
    with Progress(console=make_console(stderr=True), transient=True) as progress:
        found = replay_rules(before, now_rules, studies.facts(progress))
    ledger.close()
    if as_json:
        document = {**asdict(found), "not_judged": studies.not_judged}
        make_console(wraps=False).print(json.dumps(document))
        return
    _print(console, found, studies.not_judged, since)


class _Studies:
    """The studies of late, as facts; and those that cannot be judged any more, with the reason."""

    def __init__(
        self, plan: Plan, rule_sets: tuple[RuleSet, RuleSet], ledger: Ledger, after: float
    ) -> None:
        self._ledger = ledger
        self._keywords = rule_sets[0].keywords | rule_sets[1].keywords
        self._gatherer = build_gatherer(plan, ledger, self._keywords)
        self._after = after
        self.not_judged: dict[str, str] = {}

    def facts(self, progress: Progress) -> Iterator[StudyFacts]:
        studies = self._ledger.studies.complete_since(self._after)
        for study in progress.track(studies, description="replaying"):
            try:
                yield self._gatherer.study(study, self._keywords)
            except OSError as error:
                reason = f"a file that a rule needs cannot be read: {error.strerror}"
                self.not_judged[study.study_instance_uid] = reason


def _rules_in_force(plan: Plan, ledger: Ledger) -> RuleSet:
    """Return the rules by which the node routed last, as the ledger keeps them."""
    text = ledger.routing.last_rule_set()
    if text is None:
        raise StudyUnusable("no study was routed yet: there is nothing to compare with")
    return load_rules(Path("the rules in force"), plan.names, text)


def _seconds(since: str) -> float:
    match = _SINCE.fullmatch(since.strip())
    if match is None:
        raise ConfigError(f"{since} is no span of time", hint="write 30d, 12h or 90m")
    return int(match[1]) * _SECONDS[match[2]]


def _print(console: Console, found: Replay, not_judged: Mapping[str, str], since: str) -> None:
    console.print(
        f"{found.studies} studies with {found.instances} instances of the last {since}; "
        f"something else follows for {len(found.changed)}"
    )
    table = make_table("rule", "studies before", "now", "gained", "lost")
    for name, rule in found.rules.items():
        gained, lost = _some(rule.gained), _some(rule.lost)
        table.add_row(name, str(rule.before), str(rule.now), gained, lost)
    console.print(table)
    table = make_table("load", "before", "now")
    for engine, load in sorted(found.engines.items()):
        table.add_row(f"jobs of {engine}", str(load.before), str(load.now))
    for destination, load in sorted(found.destinations.items()):
        table.add_row(f"objects to {destination}", str(load.before), str(load.now))
    table.add_row("studies parked", str(found.parked.before), str(found.parked.now))
    table.add_row("instances dropped", str(found.dropped.before), str(found.dropped.now))
    console.print(table)
    for uid, reason in not_judged.items():
        console.print(f"study {uid} was not judged: {reason}", style="yellow")
    unmatched = [name for name, rule in found.rules.items() if not rule.now]
    if unmatched and found.studies:
        console.print(f"matched nothing: {', '.join(unmatched)}", style="yellow")


def _some(uids: list[str]) -> str:
    """Return how many, and the first few by name."""
    if not uids:
        return "-"
    more = f" and {len(uids) - _UIDS_SHOWN} more" if len(uids) > _UIDS_SHOWN else ""
    return f"{len(uids)}: {', '.join(uids[:_UIDS_SHOWN])}{more}"
