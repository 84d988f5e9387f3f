"""Parametric Map: every number stands where it was found, with what it counts for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from dicom_node.encode.identity import content_digest
from dicom_node.encode.parametric_map import make_maps
from dicom_node.errors import InvariantBroken
from dicom_node.finding import Code, ValueMap
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import classification, headers_of, segmentation
from tests.unit.encode.materials import content_of, material_of, written

CT = make_ct_series(5)
RANDOM = np.random.default_rng(7)
FLOATS = RANDOM.random((5, 64, 64), np.float32)
COUNTS = RANDOM.integers(0, 65536, (5, 64, 64)).astype(np.uint16)
PROBABILITY = Code("122157", "DCM", "Probability")
NO_UNITS = Code("1", "UCUM", "no units")


def with_map(values: NDArray[np.float32] | NDArray[np.uint16], slope: float = 1.0) -> ValueMap:
    return ValueMap("Probability of lung", values, PROBABILITY, NO_UNITS, slope)


def read_back(made: FileDataset) -> NDArray[np.float32]:
    """Return the frames in the order of the sources, by their positions."""
    frames = np.frombuffer(made.FloatPixelData, np.float32).reshape(-1, made.Rows, made.Columns)
    places = {
        tuple(map(float, source.ImagePositionPatient)): index for index, source in enumerate(CT)
    }
    values = np.full((len(CT), made.Rows, made.Columns), np.nan, np.float32)
    for frame, groups in zip(frames, made.PerFrameFunctionalGroupsSequence, strict=True):
        position = groups.PlanePositionSequence[0].ImagePositionPatient
        values[places[tuple(map(float, position))]] = frame
    return values


@pytest.mark.parametrize("values", [FLOATS, COUNTS], ids=["float32", "uint16"])
def test_every_number_is_read_back_exactly(
    values: NDArray[np.float32] | NDArray[np.uint16],
) -> None:
    finding = replace(segmentation(headers_of(CT)), maps=(with_map(values, 0.5),))
    material = material_of(finding, CT)
    [made] = make_maps(material)
    back = written(made, material)
    np.testing.assert_array_equal(read_back(back), values)
    [mapping] = back.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence
    assert (mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept) == (0.5, 0)
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "1"


def test_each_map_is_an_instance_of_the_same_series() -> None:
    maps = (with_map(FLOATS), with_map(COUNTS))
    material = material_of(replace(segmentation(headers_of(CT)), maps=maps), CT)
    made = make_maps(material)
    assert len({one.SOPInstanceUID for one in made}) == 2
    assert len({one.SeriesInstanceUID for one in made}) == 1
    assert [one.InstanceNumber for one in made] == [1, 2]
    assert [content_of(one, material) for one in made] == [
        content_of(one, material) for one in make_maps(material)
    ]


def test_a_projection_has_no_frame_of_reference_for_a_map() -> None:
    xray = make_xray()
    values = np.zeros((1, xray.Rows, xray.Columns), np.float32)
    finding = replace(classification(headers_of([xray])), maps=(with_map(values),))
    assert make_maps(material_of(finding, [xray])) == []


@pytest.mark.parametrize(
    "values",
    [FLOATS[1:], FLOATS.astype(np.float64), np.where(FLOATS > 0.9, np.nan, FLOATS)],
    ids=["a slice too few", "float64", "not numbers"],
)
def test_a_map_that_does_not_lie_on_its_sources_is_our_mistake(
    values: NDArray[np.float32],
) -> None:
    finding = replace(segmentation(headers_of(CT)), maps=(with_map(values),))
    with pytest.raises(InvariantBroken):
        make_maps(material_of(finding, CT))


def test_a_map_is_part_of_what_a_finding_says() -> None:
    bare = segmentation(headers_of(CT))
    changed = FLOATS.copy()
    changed[3, 2, 1] += 0.001
    digests = {
        content_digest(one)
        for one in (
            bare,
            replace(bare, maps=(with_map(FLOATS),)),
            replace(bare, maps=(with_map(changed),)),
            replace(bare, maps=(with_map(FLOATS, 2.0),)),
        )
    }
    assert len(digests) == 4
