"""What the harness's archive answers to a C-FIND."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from dicom_node.harness.query_matching import Held, matches_of
from tests.factories import MR_SERIES, STUDY, make_ct_series, make_mr_series

EXPLICIT = "1.2.840.10008.1.2.1"
HELD = [Held(one, EXPLICIT) for one in (*make_ct_series(3), *make_mr_series(2))]


def asked(level: str, **keys: Any) -> list[Dataset]:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = level
    for keyword, value in keys.items():
        setattr(identifier, keyword, value)
    return list(matches_of(HELD, identifier, "ARCHIVE"))


def test_a_study_tells_its_counts_and_modalities() -> None:
    [study] = asked(
        "STUDY",
        StudyInstanceUID=STUDY,
        NumberOfStudyRelatedInstances="",
        NumberOfStudyRelatedSeries="",
        ModalitiesInStudy="",
        RetrieveAETitle="",
    )
    assert (study.NumberOfStudyRelatedInstances, study.NumberOfStudyRelatedSeries) == (5, 2)
    assert list(study.ModalitiesInStudy) == ["CT", "MR"]
    assert study.RetrieveAETitle == "ARCHIVE"


def test_counts_can_be_left_empty() -> None:
    identifier = Dataset()
    identifier.QueryRetrieveLevel = "STUDY"
    identifier.NumberOfStudyRelatedInstances = ""
    [study] = matches_of(HELD, identifier, "ARCHIVE", tells_counts=False)
    assert study.NumberOfStudyRelatedInstances is None


@pytest.mark.parametrize(
    ("level", "keys", "count"),
    [
        ("STUDY", {"PatientID": "SYN-1"}, 1),
        ("STUDY", {"PatientID": "SYN-*"}, 1),
        ("STUDY", {"PatientID": "SYN-?"}, 1),
        ("STUDY", {"PatientID": "syn-1"}, 0),
        ("STUDY", {"StudyDate": "20240101-20240103"}, 1),
        ("STUDY", {"StudyDate": "20240103-"}, 0),
        ("STUDY", {"StudyDate": "-20240102"}, 1),
        ("STUDY", {"StudyDate": "20240102"}, 1),
        ("STUDY", {"StudyInstanceUID": ["1.2.3", STUDY]}, 1),
        ("SERIES", {"StudyInstanceUID": STUDY, "SeriesInstanceUID": ""}, 2),
        ("SERIES", {"StudyInstanceUID": STUDY, "Modality": "MR"}, 1),
        ("IMAGE", {"SeriesInstanceUID": MR_SERIES, "SOPInstanceUID": ""}, 2),
        ("IMAGE", {"SOPInstanceUID": "1.2.3"}, 0),
        ("PATIENT", {"PatientID": ""}, 1),
    ],
)
def test_matching_is_that_of_the_standard(level: str, keys: dict[str, Any], count: int) -> None:
    assert len(asked(level, **keys)) == count
