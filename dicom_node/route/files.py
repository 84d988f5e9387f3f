"""Facts of files on disk, for those who try rules without a node."""

from __future__ import annotations

from collections.abc import Iterable

from pydicom.dataset import Dataset

from dicom_node.headers import attributes_of
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts


def series_of(series_instance_uid: str, headers: Iterable[Dataset]) -> SeriesFacts:
    """Return the facts of a series of files; nobody has sent it, and nothing was found on it."""
    instances = [
        InstanceFacts(str(header.get("SOPInstanceUID") or ""), "", attributes_of([header]))
        for header in headers
    ]
    return SeriesFacts(series_instance_uid, tuple(instances))


def study_of(study_instance_uid: str, series: Iterable[SeriesFacts]) -> StudyFacts:
    """Return the facts of a study of files."""
    return StudyFacts(study_instance_uid, tuple(series))
