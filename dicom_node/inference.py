"""infer, then encode: what the worker process and `dicom-node process` have in common.

The mask never leaves the process that made it: it goes from the engine straight into the SEG.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pydicom
from pydicom.dataset import Dataset

from dicom_node import __version__
from dicom_node.encode.material import DISCLAIMER
from dicom_node.encode.rejection import rejection_note
from dicom_node.encode.results import Encoded, Stamp
from dicom_node.encode.trees import Wanted, encode_trees
from dicom_node.finding import Finding
from dicom_node.headers import Part10, read_header_of
from dicom_node.infer.beside import Others
from dicom_node.infer.engine import Engine
from dicom_node.infer.runtimes.port import NO_NETWORK
from dicom_node.model import Result


@dataclass(frozen=True)
class Outcome:
    """What came of one engine on one series."""

    finding: Finding
    encoded: tuple[Encoded, ...]
    seconds: Mapping[str, float]
    """`infer` and `encode`, wall time."""
    headers: Sequence[Dataset] = ()
    """Of what it was found on."""
    renditions: Mapping[str, str] = field(default_factory=dict)
    """The name of the tree that each destination gets."""


@dataclass(frozen=True)
class Wishes:
    """What is made beside the default tree."""

    wanted: Mapping[str, Wanted] = field(default_factory=dict)
    """By destination."""
    disclaimer: str = DISCLAIMER


NO_WISHES = Wishes()


def infer_and_encode(
    engine: Engine,
    files: Sequence[Part10],
    created_at: float,
    job_key: str,
    node_name: str,
    predecessors: Sequence[Result] = (),
    between: Callable[[], None] = lambda: None,
    others: Others | None = None,
    rejected: Sequence[Result] = (),
    wishes: Wishes = NO_WISHES,
) -> Outcome:
    """Run an engine on the files of one series and encode its finding.

    Parameters
    ----------
    created_at : float
        Seconds since the epoch; all dates and times in the results.
    job_key : str
        Names the input, byte for byte, and the engine; the results' UIDs follow from it.
    node_name : str
        The AE title that stands in the results.
    predecessors : sequence of Result
        Reports of the same engine on earlier revisions of the series, the oldest first.
    between : callable
        Called after infer and before encode.
    others : Others, optional
        The other series of the study and of prior ones, for an engine that looks at them.
    rejected : sequence of Result
        Of an earlier revision, to be taken back by a note.
    wishes : Wishes
        What destinations get of it.

    Raises
    ------
    StudyUnusable
        If the engine was not made for this input.
    EngineError
        If the engine failed.
    """
    started = time.perf_counter()
    finding, headers = engine.run(files, others)
    infer_s = time.perf_counter() - started
    between()
    stamp = Stamp(created_at, node_name, __version__, job_key, tuple(predecessors))
    return encode_found(finding, headers, stamp, infer_s, files, wishes, rejected)


def encode_found(
    finding: Finding,
    headers: Sequence[Dataset],
    stamp: Stamp,
    infer_s: float,
    files: Sequence[Part10],
    wishes: Wishes = NO_WISHES,
    rejected: Sequence[Result] = (),
) -> Outcome:
    """Encode what an engine has found.

    Parameters
    ----------
    headers : sequence of pydicom.Dataset
        As `Engine.run` returns them.
    infer_s : float
        What the finding took.
    files : sequence of Part10
        Of the series, in any order; key slices are read again where a picture of them is wanted.
    wishes : Wishes
        What destinations get of it.
    rejected : sequence of Result
        Of an earlier revision, to be taken back by a note.
    """
    started = time.perf_counter()
    if finding.engine.runtime == NO_NETWORK:
        warning = "No network was run: the values are zeros, for a test of the wiring"
        finding = replace(finding, warnings=(warning, *finding.warnings))
    trees = encode_trees(
        finding, headers, stamp, wishes.wanted, ImageFiles(files), wishes.disclaimer
    )
    encoded = trees.encoded
    new = {one.sop_instance_uid for one in encoded}
    if replaced := [one for one in rejected if one.sop_instance_uid not in new]:
        report = next(one for one in encoded if one.kind == "SR")
        encoded += (rejection_note(finding, headers, replaced, report, stamp),)
    seconds = {
        "infer": round(infer_s, 3),
        "encode": round(time.perf_counter() - started, 3),
    }
    return Outcome(finding, encoded, seconds, headers, trees.renditions)


class ImageFiles:
    """Reads source instances with their pixels, by UID; which file is whose is looked up once."""

    def __init__(self, files: Sequence[Part10]) -> None:
        self._files = files
        self._by_uid: dict[str, Part10] = {}

    def __call__(self, sop_instance_uid: str) -> Dataset:
        if not self._by_uid:
            for file in self._files:
                header = read_header_of(file, ["SOPInstanceUID"])
                self._by_uid[str(header.get("SOPInstanceUID"))] = file
        with self._by_uid[sop_instance_uid].open("rb") as opened:
            image = pydicom.dcmread(opened, force=True)
            image.decode()
        return image
