"""What a SEG of ours has drawn can be read back, slice by slice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dicom_node.encode.masks import read_masks
from dicom_node.encode.results import encode
from dicom_node.errors import StudyUnusable
from tests.factories import make_ct_series, make_xray
from tests.unit.encode.findings import STAMP, blobs, headers_of, read, segmentation


@pytest.mark.parametrize(
    "arguments",
    [{}, {"pixels": np.zeros((5, 61, 47), np.int16)}, {"slices": 1}],
    ids=["whole bytes", "frames that end inside a byte", "one slice"],
)
def test_the_masks_are_those_that_were_encoded(arguments: dict[str, Any], tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(**({"slices": 5} | arguments)))
    finding = segmentation(sources)
    file = tmp_path / "seg.dcm"
    file.write_bytes(encode(finding, sources, STAMP)[0].content)
    masks = read_masks(file)
    drawn = {segment.label: segment.segment_number for segment in finding.segments}
    mask, shape = blobs(sources), blobs(sources).shape
    assert masks.keys() == {label for label, number in drawn.items() if (mask == number).any()}
    for label, slices in masks.items():
        found = np.zeros(shape, bool)
        for index, uid in enumerate(finding.sop_instance_uids):
            if uid in slices:
                bits = np.unpackbits(slices[uid], bitorder="little")
                found[index] = bits[: found[index].size].reshape(found[index].shape)
                assert not bits[found[index].size :].any()
        np.testing.assert_array_equal(found, mask == drawn[label])


def test_what_is_not_binary_is_not_read(tmp_path: Path) -> None:
    sources = headers_of(make_ct_series(slices=5))
    dataset = read(encode(segmentation(sources), sources, STAMP)[0])
    dataset.SegmentationType = "FRACTIONAL"
    dataset.save_as(tmp_path / "seg.dcm")
    with pytest.raises(StudyUnusable, match="FRACTIONAL"):
        read_masks(tmp_path / "seg.dcm")


def test_what_is_no_segmentation_is_refused(tmp_path: Path) -> None:
    make_xray().save_as(tmp_path / "cr.dcm")
    with pytest.raises(StudyUnusable, match="a Segmentation of ours cannot be read"):
        read_masks(tmp_path / "cr.dcm")
