"""Finding to a report in words and pictures; pages.py says how it looks, pdf.py carries it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from PIL import Image
from pydicom.dataset import Dataset
from pydicom.valuerep import PersonName

from dicom_node.encode.header import moment_of
from dicom_node.encode.key_slices import segments_on
from dicom_node.encode.material import Material, unit_of
from dicom_node.finding import Finding, FindingKind, Measurement, Segment, several
from dicom_node.pictures import (
    Colour,
    Layer,
    font,
    grey_of,
    picture_of,
    pixel_aspect,
    segment_colour,
)

_SIDE = 768
_FACTS_MAX = 5
"""Columns of measurements that fit beside the name of a structure."""

_NO_GLYPH = "\u25a1"


@dataclass(frozen=True)
class Row:
    """A line of a table."""

    cells: tuple[str, ...]
    colour: Colour | None = None
    """Of the spot in front of it."""
    strong: bool = False


@dataclass(frozen=True)
class Table:
    """What was found, in columns."""

    headings: tuple[str, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True, eq=False)
class Figure:
    """A picture with the words under it."""

    picture: Image.Image
    caption: str


@dataclass(frozen=True, eq=False)
class Report:
    """All that stands on the pages."""

    title: str
    patient: tuple[tuple[str, str], ...]
    """Labels and values."""
    study: tuple[tuple[str, str], ...]
    summary: str
    notes: tuple[str, ...]
    """What a reader must know before believing it: warnings, what could not be printed."""
    tables: tuple[Table, ...]
    figures: tuple[Figure, ...]
    method: tuple[tuple[str, str], ...]
    description: str
    limits: tuple[str, ...]
    disclaimer: str
    signature: str
    """Engine, node, and when."""
    made_at: datetime


def report_of(material: Material) -> Report:
    """Return the report of a finding."""
    finding, engine = material.finding, material.finding.engine
    reference = material.reference
    made_at = moment_of(material.stamp, reference)
    zone = " UTC" if made_at.tzinfo is UTC else ""
    name, note = name_in_print(material.sources[0].get("PatientName", ""))
    return Report(
        title=_printable(engine.title),
        patient=_filled(
            ("Patient", name),
            ("Patient ID", str(reference.PatientID)),
            ("Born", _date(reference.get("PatientBirthDate"))),
            ("Sex", str(reference.get("PatientSex", ""))),
        ),
        study=_filled(
            ("Study", _joined(_date(reference.get("StudyDate")), reference, "StudyDescription")),
            ("Series", _joined(str(reference.get("Modality", "")), reference, "SeriesDescription")),
            ("Accession", str(reference.get("AccessionNumber", ""))),
            ("Images", _counted(finding)),
        ),
        summary=_printable(finding.summary),
        notes=tuple(_printable(text) for text in (*finding.warnings, note) if text),
        tables=tuple(table for table in _tables(material) if table.rows),
        figures=tuple(
            _figure(part, index)
            for part in material.by_time_point
            for index in part.key_slices.indices
        ),
        method=_filled(
            ("Engine", f"{engine.name} {engine.version}"),
            ("Model", f"SHA-256 {engine.model_digest[:16]}…"),
            ("Computed by", engine.runtime),
            ("Node", f"{material.stamp.node_name}, dicom_node {material.stamp.software_version}"),
        ),
        description=_printable(engine.description),
        limits=tuple(_printable(text) for text in engine.limits),
        disclaimer=_printable(material.disclaimer),
        signature=f"{engine.name} {engine.version}, {made_at:%Y-%m-%d %H:%M}{zone}",
        made_at=made_at,
    )


def name_in_print(value: str | PersonName) -> tuple[str, str]:
    """Return a Patient's Name as it can be printed, and a note where that is not all of it.

    Of the three groups of PS3.5 6.2.1 the alphabetic one is printed. Ideographs and their reading
    are not in the font: that they exist is said, so that nobody takes the name for complete.
    """
    name = PersonName(str(value))
    family, *others = (str(name).split("=")[0]).split("^")
    given = " ".join(part.strip() for part in others[:2] if part.strip())
    text = ", ".join(part for part in (family.strip(), given) if part)
    if not _is_printable(text):
        return "(see Patient ID)", (
            "The patient's name is written in characters that this report cannot print; it stands "
            "in the attributes of this document."
        )
    if name.ideographic or name.phonetic:
        return text or "(see Patient ID)", (
            "The patient's name has an ideographic or phonetic form too, which stands in the "
            "attributes of this document."
        )
    return text, ""


# ------------------------------------------------------------ tables


def _tables(material: Material) -> Iterable[Table]:
    for part in material.by_time_point:
        time_point = part.finding.time_point
        for table in _tables_of(part):
            if time_point is None:
                yield table
            else:
                first, *others = table.headings
                which = time_point.in_words[:1].upper() + time_point.in_words[1:]
                yield replace(table, headings=(_printable(f"{which}: {first}"), *others))


def _tables_of(material: Material) -> Iterable[Table]:
    finding = material.finding
    if finding.kind is FindingKind.SEGMENTATION:
        yield _measured(finding, {segment.segment_number for segment in material.drawn})
    places = _Places(finding)
    yield _classified(finding, places)
    yield _graded(finding, places)
    yield _faults(finding, places)
    yield _valued(finding, places)


class _Places:
    """The last column of a table: of which image something is said, where there are several."""

    def __init__(self, finding: Finding) -> None:
        uids = finding.sop_instance_uids
        self._numbers = {uid: str(number) for number, uid in enumerate(uids, start=1)}
        self.heading = ("Image",) if len(uids) > 1 else ()

    def of(self, sop_instance_uid: str) -> tuple[str, ...]:
        return (self._numbers.get(sop_instance_uid, "all"),) if self.heading else ()


def _classified(finding: Finding, places: _Places) -> Table:
    return Table(
        ("Finding", "Result", "Probability", "Threshold", *places.heading),
        tuple(
            Row(
                (
                    _printable(said.label),
                    "present" if said.present else "absent",
                    f"{said.probability:.2f}",
                    f"{said.threshold:g}",
                    *places.of(said.sop_instance_uid),
                ),
                strong=said.present,
            )
            for said in finding.classifications
        ),
    )


def _graded(finding: Finding, places: _Places) -> Table:
    return Table(
        ("Image quality", "Remarks", *places.heading),
        tuple(
            Row(
                (
                    str(said.grade),
                    _printable("; ".join(said.notes)),
                    *places.of(said.sop_instance_uid),
                )
            )
            for said in finding.qualities
        ),
    )


def _faults(finding: Finding, places: _Places) -> Table:
    return Table(
        ("Fault", "Result", "Probability", *places.heading),
        tuple(
            Row(
                (
                    _printable(fault.name),
                    "found" if fault.found else "not found",
                    f"{fault.probability:.2f}",
                    *places.of(said.sop_instance_uid),
                ),
                strong=fault.found,
            )
            for said in finding.qualities
            for fault in said.faults
        ),
    )


def _valued(finding: Finding, places: _Places) -> Table:
    return Table(
        ("Measurement", "Value", *places.heading),
        tuple(
            Row(
                (
                    _printable(said.label),
                    f"{said.value:g} {unit_of(said.unit.value)}".strip(),
                    *places.of(said.sop_instance_uid),
                )
            )
            for said in finding.values
        ),
    )


def _measured(finding: Finding, drawn: set[int]) -> Table:
    """Return a row for each structure, a column for each thing that was measured in any."""
    columns: dict[tuple[str, str], None] = {}
    for segment in finding.segments:
        columns |= dict.fromkeys(_heading(one) for one in _told(segment))
    kept = list(columns)[:_FACTS_MAX]
    rows = []
    for segment in finding.segments:
        found = segment.segment_number in drawn
        values = {_heading(one): f"{one.value:.1f}" for one in _told(segment)} if found else {}
        cells = [values.get(column, "") for column in kept]
        if not found:
            cells = ["not found", *cells[1:]]
        colour = segment_colour(segment.segment_number) if found else None
        rows.append(Row((_printable(segment.label), *cells), colour))
    headings = tuple(f"{meaning} ({unit})" if unit else meaning for meaning, unit in kept)
    return Table(("Structure", *(headings or ("Result",))), tuple(rows))


def _told(segment: Segment) -> list[Measurement]:
    return [one for one in segment.measurements if one.concept is not None]


def _heading(one: Measurement) -> tuple[str, str]:
    meaning = "" if one.concept is None else one.concept.meaning
    if one.derivation is not None:
        meaning = f"{meaning}, {one.derivation.meaning.lower()}"
    return _printable(meaning), unit_of(one.unit.value)


# ------------------------------------------------------------ figures


def _figure(material: Material, index: int) -> Figure:
    finding = material.finding
    image = material.read_image(finding.sop_instance_uids[index])
    layers = [Layer(mask, segment_colour(one)) for one, mask in segments_on(finding, index)]
    source = material.sources[index]
    picture = picture_of(grey_of(image, source), layers, pixel_aspect(source), _SIDE)
    count = len(finding.sop_instance_uids)
    caption = f"Image {index + 1} of {count}" if count > 1 else "The image"
    if finding.time_point is not None:
        caption = f"{caption}, {finding.time_point.short}"
    return Figure(picture, caption)


# ------------------------------------------------------------ words


def _counted(finding: Finding) -> str:
    count = len(finding.sop_instance_uids)
    images = f"{count} images" if count > 1 else "1 image"
    if finding.time_point is not None:
        return f"{images}, {finding.time_point.in_words}"
    told = [one.time_point.noun for one in finding.parts if one.time_point is not None]
    return f"{images}, {several(len(told), told[0])}" if told else images


def _joined(first: str, reference: Dataset, keyword: str) -> str:
    return ", ".join(text for text in (first, str(reference.get(keyword, "")).strip()) if text)


def _filled(*pairs: tuple[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple((label, _printable(value) or "not given") for label, value in pairs)


def _date(value: object) -> str:
    """Return a DA as people write it; one that breaks its VR as it is."""
    text = str(value or "")
    if len(text) == 8 and text.isdigit():
        return f"{text[:4]}-{text[4:6]}-{text[6:]}"
    return text


def _printable(text: str) -> str:
    """Return a text with a box for each character that the font has not."""
    return "".join(sign if _has_glyph(sign) else _NO_GLYPH for sign in text)


def _is_printable(text: str) -> bool:
    return all(map(_has_glyph, text))


@cache
def _has_glyph(sign: str) -> bool:
    # a font draws all that it has not as the same box
    used = font(16)
    return sign.isspace() or bytes(used.getmask(sign)) != bytes(used.getmask("\U000f0000"))
