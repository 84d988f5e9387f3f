"""Who proves that a study is whole, who contradicts it, and who merely doubts it.

A voice is fresh if it was given after the last instance came, and final if the standard lets nobody
change it any more. Only what is one of the two, and names or numbers all there is, proves anything.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dicom_node.assemble.evidence import Evidence, SeriesEvidence, is_often_kept_back
from dicom_node.config.settings import AssembleSettings
from dicom_node.ledger.arriving import Carrier
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.model import AnnouncedInstance, Announcement, AnnouncementKind, AnnouncementStatus
from dicom_node.verdict import CountState, SenderCount

_NOT_TO_BE_HAD = frozenset({"OFFLINE", "UNAVAILABLE"})
_FINAL = frozenset({AnnouncementStatus.COMPLETED, AnnouncementStatus.DISCONTINUED})


@dataclass(frozen=True)
class Voice:
    """What somebody says; of one series, or of the study if that is empty."""

    words: str
    series_instance_uid: str = ""


# ---------------------------------------------------------------- proofs


def proof_of_study(evidence: Evidence, policy: AssembleSettings) -> str:
    """Return in words what proves that all of the study is here; empty if nothing does."""
    if any(step.status is AnnouncementStatus.IN_PROGRESS for step in evidence.announcements):
        return ""
    images = [series for series in evidence.series if series.has_images]
    if not images:
        return ""
    for sources in (_completed_steps(evidence), _fresh_notifications(evidence)):
        named = _names(evidence, sources, policy)
        if named.missing or named.kept_back:
            continue
        if all(series.held <= named.of_series(series) for series in images):
            return f"{named.by} names all {named.count} instances, and they are here"
    count = _fresh_count(evidence)
    if count is not None and _expected(count, evidence, policy) == {
        series.series_instance_uid: len(series.held) for series in evidence.series
    }:
        total = sum(len(series.held) for series in evidence.series)
        return f"{count.ae_title} says that it has {total} instances, and they are here"
    return ""


def proof_of_series(series: SeriesEvidence, evidence: Evidence, policy: AssembleSettings) -> str:
    """Return in words what proves that all of one series is here; empty if nothing does."""
    uid = series.series_instance_uid
    in_progress = {
        instance.series_instance_uid
        for step in evidence.announcements
        if step.status is AnnouncementStatus.IN_PROGRESS
        for instance in step.instances
    }
    if uid not in in_progress:
        for sources in (_completed_steps(evidence), _fresh_notifications(evidence)):
            named = _names(evidence, sources, policy)
            gone = {instance.series_instance_uid for instance in named.missing + named.kept_back}
            if uid not in gone and series.held <= named.of_series(series):
                return f"{named.by} names all {len(series.held)} instances"
    count = _fresh_count(evidence)
    if count is not None and count.instance_counts.get(uid) == len(series.held):
        return f"{count.ae_title} says that it has {len(series.held)} instances"
    return ""


@dataclass(frozen=True)
class _Named:
    """What some announcements name together."""

    by: str
    by_series: dict[str, frozenset[str]]
    missing: tuple[AnnouncedInstance, ...]
    kept_back: tuple[AnnouncedInstance, ...]
    """Missing too, and of a kind that modalities name and do not send."""

    @property
    def count(self) -> int:
        return sum(map(len, self.by_series.values()))

    def of_series(self, series: SeriesEvidence) -> frozenset[str]:
        return self.by_series.get(series.series_instance_uid, frozenset())


def _names(evidence: Evidence, sources: list[Announcement], policy: AssembleSettings) -> _Named:
    here = evidence.held | evidence.held_elsewhere
    begun = {series.series_instance_uid for series in evidence.series}
    by_series: dict[str, set[str]] = {}
    missing: list[AnnouncedInstance] = []
    kept_back: list[AnnouncedInstance] = []
    for source in sources:
        for instance in source.instances:
            uid, series = instance.sop_instance_uid, instance.series_instance_uid
            by_series.setdefault(series, set()).add(uid)
            if uid in here or instance.availability in _NOT_TO_BE_HAD:
                continue
            if not policy.whole_studies and series not in begun:
                continue
            kept = is_often_kept_back(instance.sop_class_uid)
            (kept_back if kept else missing).append(instance)
    return _Named(
        " and ".join(sorted({f"{s.kind} of {s.calling_ae_title}" for s in sources})),
        {series: frozenset(uids) for series, uids in by_series.items()},
        tuple(missing),
        tuple(kept_back),
    )


def _completed_steps(evidence: Evidence) -> list[Announcement]:
    """Return the procedure steps that ended, of which nothing can change any more (PS3.4 F.7.2.2).

    What was discontinued alone is no whole examination.
    """
    steps = [step for step in evidence.announcements if step.status in _FINAL]
    done = any(step.status is AnnouncementStatus.COMPLETED for step in steps)
    return steps if done else []


def _fresh_notifications(evidence: Evidence) -> list[Announcement]:
    """Return notifications that came after the last instance: an older one may have grown since."""
    return [
        notification
        for notification in evidence.announcements
        if notification.kind is AnnouncementKind.IAN
        and notification.announced_at > evidence.study.last_instance_at
    ]


def _fresh_count(evidence: Evidence) -> SenderCount | None:
    count = evidence.sender_count
    if count is None or count.state is not CountState.ANSWERED:
        return None
    return count if count.asked_at > evidence.study.last_instance_at else None


def _expected(count: SenderCount, evidence: Evidence, policy: AssembleSettings) -> dict[str, int]:
    """Return how much of each series the sender has, of those that it means to send."""
    begun = {series.series_instance_uid for series in evidence.series}
    return {
        series: number
        for series, number in count.instance_counts.items()
        if policy.whole_studies or series in begun
    }


def steady_count(evidence: Evidence) -> int | None:
    """Return the number of instances that every header of the study gives, if all are here.

    It was written at an unknown time, so it proves nothing; but one that was counting up while it
    was written would differ from header to header.
    """
    total = sum(len(series.held) for series in evidence.series)
    said = frozenset().union(*(series.facts.study_counts for series in evidence.series))
    all_say = all(
        series.facts.all_say_study_count and series.facts.known == len(series.held)
        for series in evidence.series
    )
    return total if all_say and total > 1 and said == {total} else None


# ---------------------------------------------------------------- contradictions


def contradictions(evidence: Evidence, policy: AssembleSettings) -> list[Voice]:
    """Return what says that something is missing; no proof outweighs it."""
    return [
        *_missing_by_name(evidence, policy),
        *_missing_by_sender(evidence, policy),
        *_missing_by_header(evidence, policy),
        *_missing_in_acquisitions(evidence),
        *(
            Voice(gap, series.series_instance_uid)
            for series in evidence.series
            if series.facts.known == len(series.held)
            for gap in series.facts.gaps
        ),
    ]


def _missing_by_name(evidence: Evidence, policy: AssembleSettings) -> Iterator[Voice]:
    for source in evidence.announcements:
        named = _names(evidence, [source], policy)
        of_series: dict[str, int] = {}
        for instance in named.missing:
            uid = instance.series_instance_uid
            of_series[uid] = of_series.get(uid, 0) + 1
        for uid, count in sorted(of_series.items()):
            yield Voice(f"{named.by} names {count} instances that are not here", uid)


def _missing_by_sender(evidence: Evidence, policy: AssembleSettings) -> Iterator[Voice]:
    count = evidence.sender_count
    if count is None or count.state is not CountState.ANSWERED:
        return
    held = {series.series_instance_uid: len(series.held) for series in evidence.series}
    for uid, number in sorted(_expected(count, evidence, policy).items()):
        if number > held.get(uid, 0):
            words = f"{count.ae_title} has {number} instances, {held.get(uid, 0)} are here"
            yield Voice(words, uid)


def _missing_by_header(evidence: Evidence, policy: AssembleSettings) -> Iterator[Voice]:
    """Compare with the counts in headers: a lower bound, since each was written at some time."""
    for series in evidence.series:
        most = max(series.facts.series_counts, default=0)
        if most > len(series.held):
            words = (
                f"a header says that the series has {most} instances, {len(series.held)} are here"
            )
            yield Voice(words, series.series_instance_uid)
    if not policy.whole_studies:
        return
    total = sum(len(series.held) for series in evidence.series)
    most = max((n for s in evidence.series for n in s.facts.study_counts), default=0)
    if most > total:
        yield Voice(f"a header says that the study has {most} instances, {total} are here")
    most = max((n for s in evidence.series for n in s.facts.study_series), default=0)
    if most > len(evidence.series):
        yield Voice(
            f"a header says that the study has {most} series, {len(evidence.series)} are here"
        )


def _missing_in_acquisitions(evidence: Evidence) -> Iterator[Voice]:
    """Compare with (0020,1002) Images in Acquisition.

    It counts the images of one acquisition: of this series, or of all series that were made of it.
    """
    for series in evidence.series:
        if series.facts.known < len(series.held):
            continue
        for name, acquisition in sorted(series.facts.acquisitions.items()):
            alike = [
                other.facts.acquisitions[name]
                for other in evidence.series
                if name in other.facts.acquisitions
                and other.facts.modality == series.facts.modality
            ]
            most = max(sum(a.instance_count for a in alike), sum(a.frame_count for a in alike))
            if most < acquisition.announced:
                which = f"acquisition {name}" if name else "the acquisition"
                words = f"{which} has {acquisition.announced} images, {most} are here"
                yield Voice(words, series.series_instance_uid)


# ---------------------------------------------------------------- doubts


def doubts(evidence: Evidence, policy: AssembleSettings) -> list[Voice]:
    """Return what makes it likely that something is missing; a proof settles it."""
    study = evidence.study
    found = [
        Voice(f"MPPS of {step.calling_ae_title} is still in progress")
        for step in evidence.announcements
        if step.status is AnnouncementStatus.IN_PROGRESS
    ]
    for carrier in study.carriers:
        if is_broken(carrier, policy) and not _is_made_good(carrier, study.carriers):
            words = f"an association of {carrier.calling_ae_title} was {carrier.end}"
            found += [Voice(words), Voice(words, carrier.last_series)]
    if study.refused:
        found.append(Voice(f"{len(study.refused)} instances were refused and did not come since"))
    return found


def is_broken(carrier: Carrier, policy: AssembleSettings) -> bool:
    """Return whether an association broke while it may have been carrying something.

    One that was left open, and was cut for its silence, did not: its silence was waited for.
    """
    if carrier.closed_at is None or carrier.end in (None, AssociationEnd.RELEASED):
        return False
    return carrier.closed_at - carrier.last_at < policy.quiet_otherwise_s


def _is_made_good(broken: Carrier, carriers: tuple[Carrier, ...]) -> bool:
    """Return whether the sender, or somebody else, took up again what was broken off.

    Only the series that was under way shows it: a report through another association does not heal
    a scan. The break is often noticed after the sender has come back.
    """
    return any(
        carrier.end is AssociationEnd.RELEASED
        and carrier.opened_at >= broken.last_at
        and broken.last_series in carrier.series
        for carrier in carriers
        if carrier is not broken
    )
