"""Every object of a finding on an enhanced source, made and judged as a worker does it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import FileDataset

from dicom_node.encode.drafts import Piece
from dicom_node.encode.header import Stamp
from dicom_node.encode.profiles import PROFILES
from dicom_node.encode.trees import Wanted
from dicom_node.finding import Code, ValueMap
from dicom_node.gate.inspection import Checked
from dicom_node.inference import Outcome, Wishes, encode_found
from dicom_node.outgoing import held_back, saved
from tests.factories import write_series
from tests.unit.test_sources import SOURCES, Source
from tests.whole_way import drawn

ENHANCED = (
    "enhanced CT",
    "enhanced CT, oblique, pixels not square",
    "enhanced CT, frames in no order",
    "enhanced CT in two instances",
    "enhanced CT with a localizer frame",
    "enhanced MR, sagittal",
    "breast tomosynthesis",
)
EVERYTHING = PROFILES["everything"]
WISHES = Wishes(
    {
        "binary": Wanted(replace(EVERYTHING, labelmap=False)),
        "labelmap": Wanted(replace(EVERYTHING, labelmap=True)),
        "fractional": Wanted(replace(EVERYTHING, fractional=True)),
    }
)
"""Three destinations that get all objects there are, each in another encoding."""
STAMP = Stamp(1_700_000_000.0, "NODE", "0.1.0", "job")


@dataclass(frozen=True)
class Written:
    """What was written of a finding."""

    outcome: Outcome
    paths: dict[str, list[Path]]
    """By kind: SEG, LABELMAP, FRACTIONAL, PM, PR, SC, KO, PDF, SR."""
    reason: str
    """Why the gate holds it back; empty if it does not."""

    def read(self, kind: str) -> FileDataset:
        """Return an object; of several of a kind the first."""
        return pydicom.dcmread(self.paths[kind][0])


def made_on(name: str, folder: Path) -> tuple[Source, Written]:
    """Return a source of `tests/unit/test_sources.py`, and every object of a finding on it."""
    source = SOURCES[name]()
    files = write_series(source.sent, folder / "sent")
    return source, everything_on(files, folder, is_ct=source.is_ct, modality=source.modality)


def everything_on(
    files: list[Path],
    folder: Path,
    *,
    is_ct: bool,
    modality: str = "",
    bright: float = 500.0,
) -> Written:
    """Return every object of what the thresholding engine finds, with a number for each voxel."""
    found = drawn(files, folder, is_ct=is_ct, modality=modality, bright=bright, is_sure=False)
    finding = found.finding
    assert finding.mask is not None
    values = np.random.default_rng(3).random(finding.mask.shape, np.float32)
    quantity, unit = Code("122157", "DCM", "Probability"), Code("1", "UCUM", "no units")
    mapped = replace(finding, maps=(ValueMap("How likely", values, quantity, unit),))
    outcome = encode_found(mapped, found.headers, STAMP, 0.0, files, WISHES)
    paths: dict[str, list[Path]] = {}
    checked = []
    for number, one in enumerate(outcome.encoded):
        result = saved(one, "job", str(folder / f"{number:02}-{one.kind}.dcm"), _save)
        checked.append(Checked(result, Path(result.path)))
        paths.setdefault(one.kind, []).append(Path(result.path))
    return Written(outcome, paths, held_back(outcome, checked, 2**31))


def _save(path: str, pieces: Iterable[Piece]) -> int:
    return Path(path).write_bytes(b"".join(pieces))
