"""What the rules are asked of: a study, its series and instances, as values without a file behind.

The live router and the replay of a changed rule set build the same facts, from the same headers;
so what a rule says here is what it would have said then.

An attribute of a series is the one that most of its instances carry. An attribute of a study has
every value that one of its series has.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from dicom_node.model import Attributes
from dicom_node.slices import orientation_of, slice_count

_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


@dataclass(frozen=True)
class InstanceFacts:
    """An instance as the rules see it."""

    sop_instance_uid: str
    digest: str
    header: Attributes
    calling_ae_title: str = ""
    called_ae_title: str = ""
    peer: str = ""
    received_at: float = 0.0
    """Seconds since the epoch; 0 for a file that was never received."""
    unreadable: bool = False
    is_prior: bool = False
    """It was fetched as a part of a prior study."""

    @cached_property
    def attributes(self) -> Attributes:
        return {
            **self.header,
            **_sent((self,)),
            **geometry_of((self.header,)),
            "instance_count": ("1",),
            "prior": _yes_or_no(self.is_prior),
        }


@dataclass(frozen=True)
class SeriesFacts:
    """A series as the rules see it."""

    series_instance_uid: str
    instances: tuple[InstanceFacts, ...]
    findings: Mapping[str, Attributes] = field(default_factory=dict)
    """What engines found, by engine and then by fact; only of those that came to their end."""
    by_job: Mapping[str, Attributes] = field(default_factory=dict)
    """What each job found: an engine may have worked on it more than once, by changed rules."""

    @cached_property
    def attributes(self) -> Attributes:
        headers = [one.header for one in self.instances if not one.unreadable]
        count = str(len(self.instances))
        return {
            **most_common(headers),
            **_sent(self.instances),
            **geometry_of(headers),
            "instance_count": (count,),
        }

    def without(self, sop_instance_uids: Collection[str]) -> SeriesFacts:
        """Return the series as if some of its instances had not come."""
        if not sop_instance_uids:
            return self
        left = tuple(i for i in self.instances if i.sop_instance_uid not in sop_instance_uids)
        return replace(self, instances=left)

    def with_findings_of(self, jobs: Mapping[str, str]) -> SeriesFacts:
        """Return the series with what these jobs found, by engine; nothing of those still open."""
        ended = {engine: self.by_job[job] for engine, job in jobs.items() if job in self.by_job}
        others = {e: facts for e, facts in self.findings.items() if e not in jobs}
        return replace(self, findings={**others, **ended})

    def without_any(self) -> SeriesFacts:
        """Return the series as if nothing of it had come."""
        return replace(self, instances=())

    def in_order(self) -> SeriesFacts:
        """Return the same series, with its instances in the order of their UIDs."""
        ordered = tuple(sorted(self.instances, key=lambda one: one.sop_instance_uid))
        return self if ordered == self.instances else replace(self, instances=ordered)


@dataclass(frozen=True)
class StudyFacts:
    """A study as the rules see it."""

    study_instance_uid: str
    series: tuple[SeriesFacts, ...]
    revision: int = 1
    completeness: str = ""
    """The verdict, in lower case; empty while there is none."""
    released: bool = False
    """A person let it pass every rule that holds it."""
    copied_by: str = ""
    """The profile by which its UID was made: what came are results for a copy of another study."""
    prior_of: tuple[str, ...] = ()
    """The studies for which all of it was fetched as a prior; empty for one that came by itself."""

    @cached_property
    def attributes(self) -> Attributes:
        """Every value that one of the series has; what counts instances counts them all."""
        values: dict[str, dict[str, None]] = {}
        for series in self.series:
            for keyword, of_one in series.attributes.items():
                values.setdefault(keyword, {}).update(dict.fromkeys(of_one))
        instances = [instance for series in self.series for instance in series.instances]
        return {
            **{keyword: tuple(sorted(of_all)) for keyword, of_all in values.items()},
            **_sent(instances),
            **self.of_study,
            "instance_count": (str(len(instances)),),
        }

    @property
    def of_study(self) -> Attributes:
        """What each of its series shares."""
        return {
            "series_count": (str(len(self.series)),),
            "completeness": (self.completeness,),
            "prior": _yes_or_no(bool(self.prior_of)),
        }

    def in_order(self) -> StudyFacts:
        """Return the same study, with series and instances in the order of their UIDs."""
        ordered = sorted(self.series, key=lambda one: one.series_instance_uid)
        return self.of_series(one.in_order() for one in ordered)

    def of_series(self, series: Iterable[SeriesFacts]) -> StudyFacts:
        """Return the study as if it had these series."""
        return replace(self, series=tuple(series))


def most_common(headers: Sequence[Attributes]) -> Attributes:
    """Return, by keyword, the values that most of the headers carry.

    A tie goes to what sorts first, so the order of arrival does not matter.
    """
    keywords = dict.fromkeys(keyword for header in headers for keyword in header)
    common: dict[str, tuple[str, ...]] = {}
    for keyword in keywords:
        seen = Counter([header.get(keyword, ()) for header in headers])
        if len(seen) == 1:
            [common[keyword]] = seen
        else:
            common[keyword] = min(seen, key=lambda values: (-seen[values], values))
    return common


def geometry_of(headers: Sequence[Attributes]) -> Attributes:
    """Return `slice_count` and `orientation` of a series; without them where no header says."""
    oriented = [h["ImageOrientationPatient"] for h in headers if h.get("ImageOrientationPatient")]
    if not oriented:
        return {}
    words = sorted({orientation_of(values) for values in oriented} - {""})
    placed = [
        (h["ImageOrientationPatient"], h["ImagePositionPatient"])
        for h in headers
        if h.get("ImageOrientationPatient") and h.get("ImagePositionPatient")
    ]
    return {"orientation": tuple(words), "slice_count": (str(slice_count(placed)),)}


def _yes_or_no(holds: bool) -> tuple[str, ...]:
    return ("yes" if holds else "no",)


def _sent(instances: Sequence[InstanceFacts]) -> Attributes:
    """Return who sent the instances and when: of the one that came last."""
    received = [instance for instance in instances if instance.received_at]
    if not received:
        return {}
    last = max(received, key=lambda one: (one.received_at, one.sop_instance_uid))
    local = time.localtime(last.received_at)
    return {
        "calling_ae_title": (last.calling_ae_title,),
        "called_ae_title": (last.called_ae_title,),
        "peer": (last.peer,),
        "time_of_day": (time.strftime("%H%M%S", local),),
        "weekday": (_WEEKDAYS[local.tm_wday],),
    }
