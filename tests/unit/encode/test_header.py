"""Equipment, qualification and times of every result."""

from __future__ import annotations

from typing import Any

import pytest

from dicom_node.encode.results import encode
from tests.factories import make_ct_series
from tests.unit.encode.findings import STAMP, headers_of, read, segmentation


@pytest.mark.parametrize(
    ("changes", "date", "time", "offset"),
    [
        ({}, "20231114", "221320.250000", None),
        ({"TimezoneOffsetFromUTC": "+0000"}, "20231114", "221320.250000", "+0000"),
        ({"TimezoneOffsetFromUTC": "+0900"}, "20231115", "071320.250000", "+0900"),
        ({"TimezoneOffsetFromUTC": "-0330"}, "20231114", "184320.250000", "-0330"),
        ({"TimezoneOffsetFromUTC": "CET"}, "20231114", "221320.250000", None),
    ],
    ids=["source without zone", "UTC", "Tokyo", "Newfoundland", "not a zone"],
)
def test_times_are_the_jobs_in_the_zone_of_the_source(
    changes: dict[str, Any], date: str, time: str, offset: str | None
) -> None:
    sources = headers_of(make_ct_series(2, **changes))
    for result in (read(encoded) for encoded in encode(segmentation(sources), sources, STAMP)):
        assert (result.ContentDate, result.ContentTime) == (date, time)
        assert (result.InstanceCreationDate, result.InstanceCreationTime) == (date, time)
        assert result.get("TimezoneOffsetFromUTC") == offset
        assert (result.StudyDate, result.StudyTime) == ("20240102", "101500")
        library = result.ContributingEquipmentSequence[-1]
        assert library.ContributionDateTime == f"{date}{time}{offset or '+0000'}"


def test_the_equipment_is_the_nodes_and_the_scanner_contributed() -> None:
    sources = headers_of(make_ct_series(2))
    for result in (read(encoded) for encoded in encode(segmentation(sources), sources, STAMP)):
        assert result.Manufacturer == "dicom_node"
        assert result.DeviceSerialNumber == "DICOM_NODE"
        assert result.StationName == "DICOM_NODE"
        assert result.SoftwareVersions == ["dicom_node 0.1.0", "ct-lungs 1.0.0"]
        assert result.ContentQualification == "RESEARCH"
        assert result.ContributingEquipmentSequence[0].Manufacturer == "Synthetic"
