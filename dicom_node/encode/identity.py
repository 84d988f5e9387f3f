"""Who a result is: UIDs derived from what it says, so a re-run replaces rather than doubles.

The rule (PS3.3 C.12.1.1.1, PS3.5 9): the same content keeps its SOP Instance UID, changed content
gets a new one in the same series. Times, the node's version and the runtime are no content: they
come from the job and the machine, and the first object that was stored keeps them.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from weakref import WeakKeyDictionary

import numpy as np

from dicom_node.finding import EngineIdentity, Finding, TimePoint
from dicom_node.model import REJECTION
from dicom_node.packed import planes_of
from dicom_node.uid import derived_uid

SERIES_NUMBERS = {
    REJECTION: 6000,
    "PDF": 6500,
    "KO": 7000,
    "SC": 7500,
    "PR": 8000,
    "PM": 8500,
    "SEG": 9000,
    "SR": 9500,
}
"""Where our own range of Series Numbers begins, by the first word of a kind; each has 500.

What follows in a kind names the encoding of a Segmentation, and sets apart what would differ: `SEG
LABELMAP`, and `SR LABELMAP` that refers to it. `SEG` and `SR` alone are those of BINARY.
"""

_OF_SINGLE_IMAGES = ("image_share", "area_cm2")
_OF_ONE_VOLUME = frozenset({"SEG", "PM", "PR", "SC"})
"""What each time point has of its own, in a series of its own: of the Segmentations in one series
OHIF shows the last. The report, the PDF and the key objects speak of all time points."""


_KNOWN: WeakKeyDictionary[Finding, str] = WeakKeyDictionary()
"""Digests of findings: every result asks, and a mask can have a gigabyte."""


def content_digest(finding: Finding) -> str:
    """Return the SHA-256 (hexadecimal) of everything that the finding says."""
    if finding not in _KNOWN:
        _KNOWN[finding] = _content_digest(finding)
    return _KNOWN[finding]


def _content_digest(finding: Finding) -> str:
    digest = hashlib.sha256()
    engine = replace(finding.engine, runtime="")
    own = replace(finding, mask=None, probabilities=None, maps=(), engine=engine, parts=())
    said = asdict(own)
    del said["sop_instance_uids"], said["probabilities"], said["maps"], said["parts"]
    if finding.time_point is None:  # a word that came later, as those of single images
        del said["time_point"]
    for segment in said["segments"]:
        for name in _OF_SINGLE_IMAGES:  # words that came later: volumes keep their UIDs
            if segment[name] is None:
                del segment[name]
    digest.update(json.dumps(said, sort_keys=True).encode())
    for voxels in (finding.mask, finding.probabilities):
        if voxels is not None:
            digest.update(repr(voxels.shape).encode())
            for plane in planes_of(voxels):
                digest.update(np.ascontiguousarray(plane).data)
    for one in finding.maps:
        words = (one.label, one.quantity, one.unit, one.slope, one.intercept)
        digest.update(repr((words, one.values.dtype.str, one.values.shape)).encode())
        digest.update(np.ascontiguousarray(one.values).data)
    for part in finding.parts:
        digest.update(content_digest(part).encode())
    return digest.hexdigest()


def series_uid(
    engine: EngineIdentity, source_series_uid: str, kind: str, time_point: TimePoint | None = None
) -> str:
    """Return the UID of the one series that an engine version makes of a source, per kind.

    That of a time point follows from its value, not from its number: it stays what it is when an
    earlier one arrives late.
    """
    which = [] if time_point is None or not _is_of_one(kind) else [time_point.key]
    return derived_uid("series", source_series_uid, engine.name, engine.version, kind, *which)


def series_number(
    engine: EngineIdentity, source_series_uid: str, kind: str, time_point: TimePoint | None = None
) -> int:
    """Return a Series Number of our own range, the same for the same series.

    Those of time points follow each other, so that viewers list them in their order.
    """
    uid = series_uid(engine, source_series_uid, kind)
    later = 0 if time_point is None or not _is_of_one(kind) else time_point.number
    return SERIES_NUMBERS[_word(kind)] + (int(uid.removeprefix("2.25.")) + later) % 500


def instance_uid(finding: Finding, kind: str, job_key: str) -> str:
    """Return the SOP Instance UID of a finding's result of one kind.

    `job_key` stands for the bytes of the sources: a corrected header (another patient, another
    position) can leave mask and source UIDs as they were and still needs a new instance.
    """
    engine = finding.engine
    return derived_uid(
        "instance",
        job_key,
        *sorted(finding.sop_instance_uids),
        engine.name,
        engine.version,
        engine.model_digest,
        kind,
        content_digest(finding),
    )


def tracking_uid(engine: EngineIdentity, source_series_uid: str, *what: str) -> str:
    """Return the Tracking UID of one thing that an engine looks for in one series.

    It outlives engine versions: the left lung of this series stays the same left lung.
    """
    return derived_uid("tracking", source_series_uid, engine.name, *what)


def _is_of_one(kind: str) -> bool:
    return _word(kind) in _OF_ONE_VOLUME


def _word(kind: str) -> str:
    return kind.partition(" ")[0]


def device_uid(engine: EngineIdentity, node_name: str) -> str:
    """Return the Device Observer UID: one for each engine installed on a node (PS3.16 TID 1004)."""
    return derived_uid("device", node_name, engine.name)
