"""The values that cross a stage: frozen, typed, without behaviour worth a test double."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum, StrEnum
from typing import NamedTuple

from dicom_node.lifecycle import (
    BreakerState,
    CommitmentState,
    DeliveryState,
    JobState,
    StudyState,
)

Attributes = Mapping[str, tuple[str, ...]]
"""Header attributes by keyword; every value as its text, several for a multi-valued element."""


class Priority(IntEnum):
    """The order of work; a smaller number goes first ((0040,1003) Requested Procedure Priority)."""

    STAT = 0
    HIGH = 1
    ROUTINE = 2
    LOW = 3


# ---------------------------------------------------------------- what was received


@dataclass(frozen=True)
class Instance:
    """A SOP Instance that lies in the store."""

    sop_instance_uid: str
    sop_class_uid: str
    study_instance_uid: str
    series_instance_uid: str
    transfer_syntax_uid: str
    path: str
    """Where it lies, relative to the store's root; `LocalStore.file` reads it."""
    size_bytes: int
    digest: str
    """XXH3-128 (hexadecimal) of the data set as it was sent, without File Meta."""
    received_at: float
    """Seconds since the epoch."""
    association_id: str
    calling_ae_title: str


@dataclass(frozen=True)
class Study:
    """A study as the ledger knows it."""

    study_instance_uid: str
    state: StudyState
    revision: int
    reason: str
    updated_at: float
    released_revision: int = 0
    """The revision that a person let pass every rule that holds it."""


# ---------------------------------------------------------------- what peers asked and announced


@dataclass(frozen=True)
class ReferencedInstance:
    """A reference to an instance that we may or may not hold (PS3.3 Table 10-11)."""

    sop_class_uid: str
    sop_instance_uid: str


@dataclass(frozen=True)
class Commitment:
    """A request for storage commitment, and how far its report is (PS3.4 Annex J)."""

    commitment_id: int
    transaction_uid: str
    calling_ae_title: str
    """Who asked, and gets the report."""
    state: CommitmentState
    attempt: int
    """Grows with every start and every repeated request: it fences late answers."""
    failures: int
    """Failed attempts since it was requested or retried."""
    not_before: float
    reason: str
    created_at: float
    tried_since: float
    """When it was requested or retried; giving up counts from here."""
    updated_at: float


@dataclass(frozen=True)
class CommitmentOutcome:
    """Which of the referenced instances we commit to keep."""

    committed: tuple[ReferencedInstance, ...]
    failed: tuple[tuple[ReferencedInstance, int], ...]
    """Each with its (0008,1197) Failure Reason."""

    @property
    def in_words(self) -> str:
        if not self.failed:
            return f"all {len(self.committed)} instances are committed"
        first, failure_reason = self.failed[0]
        count = len(self.committed) + len(self.failed)
        return (
            f"{len(self.failed)} of {count} instances are not committed, the first is "
            f"{first.sop_instance_uid} (0x{failure_reason:04X})"
        )


class AnnouncementKind(StrEnum):
    MPPS = "MPPS"
    """A Modality Performed Procedure Step (PS3.4 F.7)."""
    IAN = "IAN"
    """An Instance Availability Notification (PS3.4 Annex R)."""


class AnnouncementStatus(StrEnum):
    """(0040,0252) Performed Procedure Step Status, and one for a notification of availability."""

    IN_PROGRESS = "IN PROGRESS"
    COMPLETED = "COMPLETED"
    DISCONTINUED = "DISCONTINUED"
    AVAILABLE = "AVAILABLE"


@dataclass(frozen=True)
class AnnouncedInstance:
    """An instance that a peer says there is."""

    series_instance_uid: str
    sop_instance_uid: str
    sop_class_uid: str
    availability: str = ""
    """(0008,0056) Instance Availability; empty in a procedure step, which does not say."""


@dataclass(frozen=True)
class Announcement:
    """What a peer says that a study consists of: evidence, never an instance."""

    source_uid: str
    """SOP Instance UID of the procedure step or the notification."""
    kind: AnnouncementKind
    calling_ae_title: str
    status: AnnouncementStatus
    study_instance_uids: tuple[str, ...]
    """Several where one step serves several requested procedures."""
    instances: tuple[AnnouncedInstance, ...]
    announced_at: float
    ended_at: float | None
    """When it was COMPLETED or DISCONTINUED; for a notification, when it came."""
    updated_at: float


# ---------------------------------------------------------------- what is to be done


class JobRole(StrEnum):
    """For what a job is done."""

    CURRENT = "current"
    """Its results are what the rules ask for."""
    CANARY = "canary"
    """A candidate's; its results are sent in place of those of the version in use."""
    SHADOW = "shadow"
    """A candidate's; its results are only compared, and it gives way to all others."""


@dataclass(frozen=True)
class Job:
    """One engine version on one series of one study revision."""

    job_id: str
    study_instance_uid: str
    series_instance_uid: str
    revision: int
    engine_name: str
    engine_version: str
    rule: str
    destinations: tuple[str, ...]
    priority: Priority
    state: JobState
    attempt: int
    """Grows with every start and is never reset: it fences late answers."""
    failures: int
    """Errors since it was queued or retried."""
    crashes: int
    """Worker processes lost since it was queued or retried."""
    not_before: float
    reason: str
    created_at: float
    """Seconds since the epoch; all dates and times in the results come from here."""
    updated_at: float
    summary: str = ""
    """The finding in words, once there is one."""
    parameters: Mapping[str, float] = field(default_factory=dict)
    """Of the engine, where the rule sets them."""
    facts: Attributes = field(default_factory=dict)
    """The finding as rules may ask for it."""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """What each beat of the work took, by name."""
    role: JobRole = JobRole.CURRENT


REJECTION = "REJECTION"
"""The kind of a result that takes others back; only destinations that want it get it."""


DEFAULT_RENDITION = "default"
"""The tree that is made of every finding."""


@dataclass(frozen=True)
class Result:
    """A SOP Instance that we made; its bytes lie in the store before the row exists."""

    sop_instance_uid: str
    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str
    transfer_syntax_uid: str
    job_id: str
    kind: str
    """SEG, LABELMAP, FRACTIONAL, PM, PR, SC, KO, PDF, SR or REJECTION."""
    path: str
    size_bytes: int
    digest: str
    renditions: tuple[str, ...] = (DEFAULT_RENDITION,)
    """The trees that it is in: of each, one goes to a destination as a whole."""


@dataclass(frozen=True)
class Delivery:
    """One result on its way to one destination."""

    delivery_id: int
    sop_instance_uid: str
    destination: str
    priority: Priority
    state: DeliveryState
    attempt: int
    """Grows with every start and is never reset: it fences late answers."""
    failures: int
    """Failed attempts since it was made or retried."""
    not_before: float
    reason: str
    created_at: float
    tried_since: float
    """When it was made or retried; giving up counts from here."""
    updated_at: float
    sent_at: float | None = None
    """When the destination answered Success last; the time for its proof counts from here."""
    resends: int = 0
    """How often it was sent again since it was made or retried, since it was not there."""
    transaction_uid: str = ""
    """Under which the destination was asked last to commit to it since it was sent; or empty."""
    committed: int | None = None
    """What it answered: 0 or a (0008,1197) Failure Reason; None if it has not yet."""


class InstanceKey(NamedTuple):
    """An instance with the bytes that it had when it was looked at."""

    series_instance_uid: str
    sop_instance_uid: str
    digest: str


@dataclass(frozen=True)
class Breaker:
    """Whether anything is sent to a destination; one that never failed has none."""

    destination: str
    state: BreakerState
    failures: int
    """Attempts in vain since it last answered, probes included."""
    not_before: float
    """When it is probed next."""
    opened_at: float
    reason: str
    updated_at: float


@dataclass(frozen=True)
class Forward:
    """Originals that go to one destination."""

    destination: str
    profile: str
    """By which they are coerced or de-identified; empty: as they came."""
    priority: Priority
    rule: str
    instances: tuple[InstanceKey, ...]


@dataclass(frozen=True)
class Drop:
    """Instances that go nowhere."""

    rule: str
    reason: str
    instances: tuple[InstanceKey, ...]


RESTORED = "(restored)"
"""In place of a profile: results for a copy go out as results for the real study."""


@dataclass(frozen=True)
class ForwardTask:
    """The originals of one study on their way to one destination."""

    forward_id: int
    study_instance_uid: str
    destination: str
    profile: str
    """By which they are coerced or de-identified; empty: as they came."""
    rule: str
    priority: Priority
    state: DeliveryState
    attempt: int
    """Grows with every start and is never reset: it fences late answers."""
    failures: int
    """Failed attempts since it was made or retried."""
    not_before: float
    reason: str
    created_at: float
    tried_since: float
    """When it was made or retried; giving up counts from here."""
    updated_at: float


@dataclass(frozen=True)
class Event:
    """Why something changed."""

    at: float
    subject_kind: str
    """study, job, delivery, forward, consignment, fetch, trial, comparison, instance, association,
    engine, destination, node."""
    subject: str
    event: str
    from_state: str
    to_state: str
    reason: str


# ---------------------------------------------------------------- copies that were coerced


@dataclass(frozen=True)
class CrosswalkEntry:
    """What a value of an original became in a copy; `original` may be patient identity."""

    profile: str
    study_instance_uid: str
    """Of the copy: results come back with it."""
    kind: str
    """"uid", "date", or the keyword of an attribute of patient or study."""
    original: str
    replacement: str
