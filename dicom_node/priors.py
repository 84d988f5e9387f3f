"""Prior studies: which are wanted, and how far they are on their way."""

from __future__ import annotations

from dataclasses import dataclass

from dicom_node.lifecycle import FetchState


@dataclass(frozen=True)
class PriorsWanted:
    """Which prior studies a rule wants for an engine, and of which archive."""

    source: str
    """The peer that is asked."""
    count_max: int = 1
    """So many are fetched, the newest first."""
    modalities: tuple[str, ...] = ()
    """One of them has to be in the study; empty for any."""
    study_description: str = ""
    """A pattern with `*` and `?`, without regard to case; empty for any."""
    body_parts: tuple[str, ...] = ()
    """One of them has to be (0018,0015) Body Part Examined, where the archive tells it; where it
    does not, the study is taken."""
    within_days: int | None = None
    """How much older than the current study it may be; any age if None."""
    older_than_study: bool = True
    """Whether a study from after the current one is left out."""
    wait_s: float = 600.0
    """So long the engine waits for them; then it runs without."""


@dataclass(frozen=True)
class PriorFetch:
    """The prior studies that a job waits for, on their way from an archive."""

    fetch_id: int
    job_id: str
    study_instance_uid: str
    """The current study."""
    series_instance_uid: str
    """Its series on which the job runs."""
    source: str
    wanted: PriorsWanted
    state: FetchState
    attempt: int
    """Grows with every start and is never reset: it fences late answers."""
    failures: int
    """Failed attempts since it was made or retried."""
    not_before: float
    give_up_at: float
    """Seconds since the epoch; from then on the job runs without."""
    reason: str
    created_at: float
    updated_at: float


@dataclass(frozen=True)
class FetchedPrior:
    """One prior study that a fetch has chosen."""

    study_instance_uid: str
    calling_ae_title: str
    """As whom the archive sends it to us."""
    was_held: bool
    """It was here already; nothing was asked for."""
    instance_count: int
    """How many instances it has, as the archive counts."""
    failed: int
    """How many the archive could not send."""
    is_whole: bool
    """Whether all of it is in the ledger."""
    asked_at: float
    ended_at: float | None
    """What comes later was not asked for; None while it comes."""
