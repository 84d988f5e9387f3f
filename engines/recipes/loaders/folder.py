"""A folder of DICOM files, sorted into series and what was drawn on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.conditions import Condition, parse_conditions
from dicom_node.errors import StudyUnusable
from dicom_node.headers import read_header_of
from dicom_node.infer.accepting import refusals
from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.masks import MASK_CLASSES, series_of
from engines.recipes.loaders.progress import Progress, nobody, on_all_cores, some

_KEYWORDS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "PatientID"),
    "Rows",
)
_NO_DICOM = frozenset(
    {".csv", ".txt", ".md", ".json", ".xml", ".xlsx", ".pdf", ".png", ".jpg", ".npz", ".gz", ".npy"}
)


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series, and those of what was drawn on it."""

    patient: str
    study: str
    series: str
    images: dict[str, Path] = field(default_factory=dict)
    """By SOP Instance UID."""
    masks: list[Path] = field(default_factory=list)


def find_series(directory: Path, progress: Progress = nobody) -> list[SeriesFiles]:
    """Return the series of images below a folder, by their UIDs.

    Files of other kinds by their ending, hidden ones and DICOMDIR are passed over, as are objects
    without pixels: reports, presentation states.

    Raises
    ------
    DataUnusable
        If a file cannot be read, or a mask does not say on what it was drawn.
    """
    files = [file for file in sorted(directory.rglob("*")) if _may_be_dicom(file)]
    if not files:
        raise DataUnusable(f"no DICOM file in {directory}", hint="name the folder of the studies")
    broken: list[str] = []

    def head(file: Path) -> Dataset | None:
        try:
            header = read_header_of(file, _KEYWORDS)
        except StudyUnusable:
            return None
        return header if header.get("SOPInstanceUID") and header.get("SOPClassUID") else None

    found: dict[str, SeriesFiles] = {}
    masks: list[Path] = []
    for file, header in zip(files, on_all_cores(head, files, progress), strict=True):
        if header is None:
            broken.append(str(file.relative_to(directory)))
        elif header.SOPClassUID in MASK_CLASSES:
            masks.append(file)
        elif header.get("Rows"):
            uid = str(header.get("SeriesInstanceUID", ""))
            new = SeriesFiles(
                str(header.get("PatientID", "")), str(header.get("StudyInstanceUID", "")), uid
            )
            found.setdefault(uid, new).images[str(header.SOPInstanceUID)] = file
    if broken:
        raise DataUnusable(
            f"{len(broken)} files cannot be read as DICOM: {some(broken)}",
            hint="fetch them again, or take out what is no DICOM",
        )
    for file in masks:
        _give(file, found)
    return [found[uid] for uid in sorted(found)]


def conditions_of(written: Mapping[str, object] | None) -> tuple[Condition, ...]:
    """Return the conditions of an `accepts`, as an engine's manifest has them.

    Raises
    ------
    DataUnusable
        With every mistake.
    """
    if not written:
        return ()
    conditions, mistakes = parse_conditions(dict(written))
    if mistakes:
        told = "; ".join(f"{'.'.join(map(str, path))}: {message}" for path, message in mistakes)
        raise DataUnusable(f"accepts: {told}", hint="docs/engines.md has its words")
    return conditions


def is_accepted(headers: Sequence[Dataset], conditions: Sequence[Condition]) -> bool:
    """Return whether a series is one of those that are meant."""
    return not refusals(conditions, headers, len(headers))


def _may_be_dicom(file: Path) -> bool:
    return (
        file.is_file()
        and not file.name.startswith(".")
        and file.name != "DICOMDIR"
        and file.suffix.lower() not in _NO_DICOM
    )


def _give(mask: Path, found: dict[str, SeriesFiles]) -> None:
    """Give a mask to the series on which it was drawn."""
    try:
        wanted = series_of(read_header_of(mask))
    except StudyUnusable as error:
        raise DataUnusable(f"{mask.name}: {error.message}", hint=error.hint) from error
    if not wanted:
        raise DataUnusable(
            f"{mask.name} does not say on which series it was drawn",
            hint="have whoever drew it write the Referenced Series Sequence",
        )
    there = [uid for uid in wanted if uid in found]
    if not there:
        raise DataUnusable(
            f"{mask.name} was drawn on series {some(sorted(wanted))}, which is not in the folder",
            hint="fetch that series, or take the mask out",
        )
    for uid in there:
        found[uid].masks.append(mask)
