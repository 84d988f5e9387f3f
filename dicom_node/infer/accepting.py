"""What an engine says of the series that it takes, held against headers."""

from __future__ import annotations

from collections.abc import Sequence

from pydicom.dataset import Dataset

from dicom_node.conditions import Condition
from dicom_node.headers import attributes_of


def refusals(
    conditions: Sequence[Condition], headers: Sequence[Dataset], instance_count: int
) -> list[str]:
    """Return the reason of every condition that does not hold for the headers of a series."""
    # Of long series only the elements that are asked for are looked at.
    keywords = {condition.keyword for condition in conditions}
    asked = [Dataset({e.tag: e for e in h if e.keyword in keywords}) for h in headers]
    attributes = {**attributes_of(asked), "instance_count": (str(instance_count),)}
    outcomes = [condition.check(attributes) for condition in conditions]
    return [outcome.reason for outcome in outcomes if not outcome.holds]
