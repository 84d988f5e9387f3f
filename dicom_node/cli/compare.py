"""`dicom-node status --shadow`: how candidates do beside the versions in use."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from dicom_node.cli.console import make_console
from dicom_node.comparer import summarized
from dicom_node.config.loading import load_config
from dicom_node.infer.agreement import Summary
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import ComparisonState
from dicom_node.trials import Comparison, Trial


@dataclass(frozen=True)
class Standing:
    """How one trial stands, since its stop rules count."""

    trial: Trial
    summary: Summary
    counts: Mapping[ComparisonState, int]
    """Of all its comparisons, also of those before it was started again."""


def compare(config_file: Path, as_json: bool, engine: str = "") -> None:
    """Print the trials; with `engine`, only those that it has a part in."""
    ledger = Ledger(load_config(config_file).ledger_url)
    ledger.require_current()
    standings = standings_of(ledger, engine)
    ledger.close()
    if as_json:
        make_console(wraps=False).print(json.dumps([_document(one) for one in standings]))
    else:
        _print(make_console(wraps=False), standings)


def standings_of(ledger: Ledger, engine: str = "") -> list[Standing]:
    """Return how the trials stand, the oldest first."""
    return [
        Standing(trial, summarized(ledger, trial), ledger.trials.counts(trial.trial_id))
        for trial in ledger.trials.all()
        if not engine or engine in (trial.current_engine, trial.candidate_engine)
    ]


def told(comparison: Comparison, trial: Trial | None) -> str:
    """Return a comparison in a line, for `explain`."""
    candidate = f"{trial.candidate_engine} {trial.candidate_version}" if trial else "a candidate"
    return f"compared with {candidate} ({comparison.mode}), {comparison.state}: {comparison.reason}"


def _document(standing: Standing) -> dict[str, Any]:
    summary = standing.summary
    return {
        **asdict(standing.trial),
        "name": standing.trial.name,
        "counts": {str(state): count for state, count in standing.counts.items()},
        "summary": {**asdict(summary), "slower": summary.slower},
    }


def _print(console: Console, standings: list[Standing]) -> None:
    if not standings:
        console.print("nothing is or was tried; a rule says `shadow:` or `canary:` of an engine")
    for one in standings:
        trial, summary = one.trial, one.summary
        share = "" if trial.share == 1 else f" on {trial.share:.4g} of the studies"
        console.print(
            f"{trial.name} {trial.mode} {trial.candidate_engine} {trial.candidate_version} beside "
            f"{trial.current_engine} {trial.current_version}{share}"
        )
        console.print(f"  {trial.state}: {trial.reason}")
        open_ones = one.counts.get(ComparisonState.OPEN, 0)
        console.print(f"  {summary.studies} compared, {summary.failures} failed, {open_ones} open")
        for line in in_words(summary):
            console.print(f"  {line}")


def in_words(summary: Summary) -> Iterator[str]:
    """Yield what is known of an agreement, a line each."""
    if summary.dice is not None:
        by_segment = ", ".join(f"{n} {v:.3f}" for n, v in summary.dice_by_segment.items())
        yield f"Dice {summary.dice:.3f}, lowest {summary.dice_lowest:.3f} ({by_segment})"
    if summary.volume_share is not None:
        by_segment = ", ".join(f"{n} {v:.1f} ml" for n, v in summary.volume_ml_by_segment.items())
        yield f"volumes differ by {summary.volume_share:.1%} ({by_segment})"
    if summary.flips is not None:
        yield f"another class or grade on {summary.flips:.1%}"
    if summary.kappa is not None:
        by_class = ", ".join(f"{n} {v:.2f}" for n, v in summary.kappa_by_class.items())
        yield f"kappa {summary.kappa:.2f} ({by_class})"
    if summary.probability is not None:
        largest = f"at most {summary.probability_largest:.3f}"
        yield f"probabilities differ by {summary.probability:.3f}, {largest}"
    if summary.slower is not None:
        both = f"{summary.current_s:.2f} s -> {summary.candidate_s:.2f} s"
        yield f"{summary.slower:.2f} times as slow: {both}"
