"""Several time points of one series: which of them an engine is asked about, and their finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from dicom_node.errors import StudyUnusable
from dicom_node.finding import Finding, TimePoint, several
from dicom_node.infer.blocks import VolumeInput
from dicom_node.infer.series import SourceVolume
from dicom_node.packed import packed

_TOLD_MAX = 4
"""Time points that a summary tells; of more the first and the last."""


def chosen(volumes: Sequence[SourceVolume], wanted: VolumeInput) -> tuple[SourceVolume, ...]:
    """Return the volumes of a series that an engine is to be asked about.

    Raises
    ------
    StudyUnusable
        If it takes no series with several, or none with so many.
    """
    first = volumes[0].time_point
    if first is None or len(volumes) < 2:
        return tuple(volumes)
    if wanted.time_points == "refuse":
        raise StudyUnusable(
            f"{first.several} in one series, and this engine takes one volume",
            hint="send each as its own series, or set time_points in the engine's manifest",
        )
    if wanted.time_points != "all":
        one = volumes[0 if wanted.time_points == "first" else -1]
        reason = f"not the {wanted.time_points} {first.noun}, which is all that this engine takes"
        others = [other for other in volumes if other is not one]
        left_out = [(image.name, reason) for other in others for image in other.images]
        return (replace(one, left_out=one.left_out + tuple(left_out)),)
    if len(volumes) > wanted.time_points_max:
        raise StudyUnusable(
            f"{first.several} in one series, more than {wanted.time_points_max}, the most of which "
            "each gets its own results",
            hint="raise time_points_max in the engine's manifest, or have it take first or last",
        )
    return tuple(volumes)


@contextmanager
def of_time_point(volume: SourceVolume) -> Iterator[None]:
    """Say in a refusal which time point it is of: the series is refused as a whole."""
    try:
        yield
    except StudyUnusable as error:
        if volume.time_point is None:
            raise
        words = f"{volume.time_point.in_words}: {error.message}"
        raise StudyUnusable(words, hint=error.hint) from error


def at_rest(finding: Finding) -> Finding:
    """Return a finding that takes little memory while others are made."""
    return replace(finding, mask=packed(finding.mask), probabilities=packed(finding.probabilities))


def joined(parts: Sequence[Finding]) -> Finding:
    """Return one finding of those of several time points, in their order."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]
    return Finding(
        kind=first.kind,
        engine=first.engine,
        sop_instance_uids=tuple(uid for part in parts for uid in part.sop_instance_uids),
        summary=_summary(parts),
        warnings=_warnings(parts),
        parts=tuple(parts),
    )


def _summary(parts: Sequence[Finding]) -> str:
    told = list(parts)
    if len(parts) > _TOLD_MAX:
        told = [*parts[: _TOLD_MAX - 1], parts[-1]]
    words = [f"{_numbered(part)}: {part.summary}" for part in told]
    if len(told) < len(parts):
        words.insert(-1, "...")
    first = parts[0].time_point
    noun = "time point" if first is None else first.noun
    return "; ".join([several(len(parts), noun), *words])


def _numbered(part: Finding) -> int:
    return 0 if part.time_point is None else part.time_point.number


def _warnings(parts: Sequence[Finding]) -> tuple[str, ...]:
    """Return each warning once, with the time points that it is of if it is not of all."""
    of: dict[str, list[TimePoint]] = {}
    for part in parts:
        for warning in part.warnings:
            if part.time_point is not None:
                of.setdefault(warning, []).append(part.time_point)
    return tuple(
        warning if len(points) == len(parts) else f"{_named(points)}: {warning}"
        for warning, points in of.items()
    )


def _named(points: Sequence[TimePoint]) -> str:
    return f"{points[0].noun} {', '.join(str(one.number) for one in points)}"
