"""DICOM files on disk, found and grouped into series, for `process` and `explain`."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydicom.dataset import Dataset

from dicom_node.errors import StudyUnusable
from dicom_node.headers import attributes_of, read_header
from dicom_node.model import Attributes
from dicom_node.route.facts import SeriesFacts, StudyFacts
from dicom_node.route.files import series_of, study_of


@dataclass(frozen=True)
class SeriesFiles:
    """The files of one series, in a stable order."""

    study_instance_uid: str
    series_instance_uid: str
    paths: tuple[Path, ...]
    headers: tuple[Dataset, ...]

    @property
    def attributes(self) -> Attributes:
        """As the router sees a received series; the sender is not known here."""
        return {**attributes_of(self.headers), "instance_count": (str(len(self.paths)),)}

    @property
    def title(self) -> str:
        """Modality and description, or the only file's name, for a table."""
        attributes = self.attributes
        words = [*attributes.get("Modality", ()), *attributes.get("SeriesDescription", ())]
        if len(self.paths) == 1:
            words.append(self.paths[0].name)
        return " ".join(word for word in words if word) or self.series_instance_uid


def studies_of(series: Sequence[SeriesFiles]) -> list[StudyFacts]:
    """Return the studies of series of files, as the rules see them."""
    by_study: dict[str, list[SeriesFacts]] = defaultdict(list)
    for one in series:
        by_study[one.study_instance_uid].append(series_of(one.series_instance_uid, one.headers))
    return [study_of(uid, of_one) for uid, of_one in by_study.items()]


@dataclass(frozen=True)
class Unreadable:
    """A file that is none of ours, and why."""

    path: Path
    reason: str
    claims_to_be_dicom: bool
    """It has the prefix of a Part 10 file (PS3.10 7.1); other files may lie about in a folder."""


def find_series(source: Path) -> tuple[list[SeriesFiles], list[Unreadable]]:
    """Return the series in a file or a folder and its subfolders.

    Raises
    ------
    StudyUnusable
        If there is no such file or folder, or no file in it.
    """
    paths = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    if not source.exists() or not paths:
        raise StudyUnusable(f"{source}: there is no file", hint="name a DICOM file or a folder")
    groups: dict[tuple[str, str], list[tuple[Path, Dataset]]] = defaultdict(list)
    unreadable = []
    for path in paths:
        try:
            header = read_header(path)
        except StudyUnusable as error:
            unreadable.append(Unreadable(path, error.message, _has_prefix(path)))
            continue
        except OSError as error:
            unreadable.append(Unreadable(path, f"cannot be read: {error.strerror}", True))
            continue
        study, series = (
            str(header.get(keyword) or "") for keyword in ("StudyInstanceUID", "SeriesInstanceUID")
        )
        if study and series:
            groups[(study, series)].append((path, header))
        else:
            reason = "no DICOM image: it has no Study or no Series Instance UID"
            unreadable.append(Unreadable(path, reason, _has_prefix(path)))
    return [_series(key, files) for key, files in sorted(groups.items())], unreadable


def _has_prefix(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _series(key: tuple[str, str], files: Sequence[tuple[Path, Dataset]]) -> SeriesFiles:
    return SeriesFiles(*key, tuple(path for path, _ in files), tuple(head for _, head in files))
