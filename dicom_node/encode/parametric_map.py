"""Finding to Parametric Map: a number for each voxel, on the grid of its sources (PS3.3 A.75)."""

from __future__ import annotations

import numpy as np
from highdicom import VOILUTTransformation
from highdicom._standard_utils import get_anatomic_region_map
from highdicom.pm import ParametricMap, RealWorldValueMapping
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from dicom_node.encode import codes
from dicom_node.encode.header import MANUFACTURER, common_arguments
from dicom_node.encode.identity import instance_uid
from dicom_node.encode.material import Material
from dicom_node.encode.shell import code_item
from dicom_node.encode.sources import name_sources
from dicom_node.errors import InvariantBroken
from dicom_node.finding import ValueMap
from dicom_node.uid import derived_uid

_QUANTITY = ("246205007", "SCT", "Quantity")
_WHOLE_BODY = ("38266002", "SCT", "Entire body")


def make_maps(material: Material) -> list[Dataset]:
    """Return an object for each map of a finding; times not yet set.

    None on projections: a Parametric Map lies in a frame of reference, which they have not.

    Raises
    ------
    InvariantBroken
        If a map does not lie on the grid of its sources.
    """
    if "ImagePositionPatient" not in material.reference:
        return []
    return [
        _made(material, one, number) for number, one in enumerate(material.finding.maps, start=1)
    ]


def _made(material: Material, given: ValueMap, number: int) -> Dataset:
    finding, reference = material.finding, material.reference
    values = given.values
    expected = (len(material.copies), reference.Rows, reference.Columns)
    if values.shape != expected or values.dtype not in (np.float32, np.uint16):
        raise InvariantBroken(f"a map is {values.dtype} {values.shape}, its sources {expected}")
    if not np.isfinite(values).all():
        raise InvariantBroken("a map has values that are no numbers")
    arguments = common_arguments(finding, reference, material.stamp, "PM")
    part = f"PM\n{number}"
    arguments |= {
        "sop_instance_uid": instance_uid(finding, part, material.stamp.job_key),
        "instance_number": 100 * (arguments["instance_number"] - 1) + number,
    }
    # dcmqi, so 3D Slicer, reads no integers; a float32 holds each uint16 as it is.
    stored = values.astype(np.float32, copy=False)
    low, high = float(stored.min()), float(stored.max())
    made: Dataset = ParametricMap(
        source_images=list(material.copies),
        pixel_array=stored,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[
            RealWorldValueMapping(
                lut_label="1",
                lut_explanation=codes.long_string(given.label),
                unit=codes.concept(given.unit),
                value_range=(low, high),
                slope=given.slope,
                intercept=given.intercept,
                quantity_definition=codes.concept(given.quantity),
            )
        ],
        voi_lut_transformations=[
            VOILUTTransformation(
                window_center=(low + high) / 2,
                window_width=max(high - low, 1e-6),
                voi_lut_function="LINEAR_EXACT",
            )
        ],
        transfer_syntax_uid=ExplicitVRLittleEndian,
        content_label=codes.code_string(finding.engine.name),
        content_description=codes.long_string(given.label),
        content_creator_name=f"{MANUFACTURER}^",
        **arguments,
    )
    _settle(made, material, given)
    return made


def _settle(made: Dataset, material: Material, given: ValueMap) -> None:
    """Add what highdicom leaves to its caller, and replace what it makes up."""
    reference = material.reference
    if reference.get("BodyPartExamined"):
        made.BodyPartExamined = reference.BodyPartExamined
    name_sources(made, material.copies)
    _order_along_the_normal(made)
    shared = made.SharedFunctionalGroupsSequence[0]
    region = get_anatomic_region_map().get(str(reference.get("BodyPartExamined", "")))
    anatomy = Dataset()  # required of what is in a patient (PS3.3 C.7.6.16.2.8); dcmqi needs it
    anatomy.FrameLaterality = "U" if region is not None and not region[1] else "B"
    anatomy.AnatomicRegionSequence = [code_item(*_WHOLE_BODY) if region is None else region[0]]
    shared.FrameAnatomySequence = [anatomy]
    uid = derived_uid("dimensions", made.SOPInstanceUID)
    for item in [*made.DimensionOrganizationSequence, *made.DimensionIndexSequence]:
        item.DimensionOrganizationUID = uid


def _order_along_the_normal(made: Dataset) -> None:
    """Order the frames by their positions; highdicom has them from the far end.

    dcmqi, so 3D Slicer, puts the first frame at the lowest position, whatever position it tells.
    """
    shared, items = made.SharedFunctionalGroupsSequence[0], made.PerFrameFunctionalGroupsSequence
    cosines = [float(one) for one in shared.PlaneOrientationSequence[0].ImageOrientationPatient]
    normal = np.cross(cosines[:3], cosines[3:])
    positions = [item.PlanePositionSequence[0].ImagePositionPatient for item in items]
    along = [float(np.dot([float(mm) for mm in position], normal)) for position in positions]
    order = np.argsort(along, kind="stable")
    frames = np.frombuffer(made.FloatPixelData, np.float32).reshape(len(items), -1)
    made.FloatPixelData = frames[order].tobytes()
    made.PerFrameFunctionalGroupsSequence = [items[index] for index in order]
