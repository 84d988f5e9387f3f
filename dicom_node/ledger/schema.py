"""The tables. The CHECK on each state column is generated from lifecycle.py."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from dicom_node.lifecycle import (
    FORWARD_STATES,
    BreakerState,
    CommitmentState,
    ComparisonState,
    DeliveryState,
    FetchState,
    JobState,
    StudyState,
    TrialState,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""SQLite counts a row's number up by itself only in an INTEGER, which has 64 bits there."""


def _state_check(states: Iterable[str]) -> CheckConstraint:
    allowed = ", ".join(f"'{state}'" for state in states)
    return CheckConstraint(f"state IN ({allowed})", name="state")


associations = Table(
    "associations",
    metadata,
    Column("association_id", Text, primary_key=True),
    Column("calling_ae_title", Text, nullable=False),
    Column("called_ae_title", Text, nullable=False),
    Column("address", Text, nullable=False),
    Column("opened_at", Float, nullable=False),
    Column("closed_at", Float),  # NULL while it is open
    Column("ended", Text),  # released, aborted or lost
    Index(None, "closed_at"),
)

receive_logs = Table(
    "receive_logs",
    metadata,
    Column("log", Text, primary_key=True),
    Column("segment_number", BigInteger, nullable=False),  # everything before this place
    Column("offset", BigInteger, nullable=False),  # is in the ledger
)

studies = Table(
    "studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("last_instance_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    Column("released_revision", Integer, nullable=False, server_default="0"),  # not held by rules
    _state_check(StudyState),
    Index(None, "state"),
)

instances = Table(
    "instances",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("received_at", Float, nullable=False),
    Column("association_id", Text, nullable=False),
    Column("calling_ae_title", Text, nullable=False),
    Index(None, "sop_instance_uid"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("job_id", Text, primary_key=True),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("engine_name", Text, nullable=False),
    Column("engine_version", Text, nullable=False),
    Column("rule", Text, nullable=False),
    Column("destinations", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("summary", Text, nullable=False),
    Column("seconds", JSON, nullable=False),
    Column("parameters", JSON, nullable=False, server_default="{}"),
    Column("facts", JSON, nullable=False, server_default="{}"),  # what rules may ask of it
    Column("role", Text, nullable=False, server_default="current"),  # current, canary or shadow
    Column("renditions", JSON, nullable=False, server_default="{}"),  # by destination
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    _state_check(JobState),
    Index(None, "state", "not_before"),
    Index(None, "study_instance_uid"),
)

results = Table(
    "results",
    metadata,
    Column("sop_instance_uid", Text, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),
    Column("transfer_syntax_uid", Text, nullable=False),
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
    Column("digest", Text, nullable=False),
    Column("renditions", JSON, nullable=False, server_default='["default"]'),  # trees it is in
    Index(None, "job_id"),
    Index(None, "study_instance_uid"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("sop_instance_uid", Text, ForeignKey("results.sop_instance_uid"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("tried_since", Float, nullable=False),  # giving up counts from here
    Column("updated_at", Float, nullable=False),
    Column("sent_at", Float),  # NULL until the destination has answered Success
    Column("resends", Integer, nullable=False, server_default="0"),
    Column("transaction_uid", Text, nullable=False, server_default=""),  # or empty
    Column("committed", Integer),  # 0, a Failure Reason, or NULL while it has not been answered
    _state_check(DeliveryState),
    UniqueConstraint("sop_instance_uid", "destination"),
    Index(None, "state", "destination", "not_before"),
    Index(None, "transaction_uid"),
)

breakers = Table(
    "breakers",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),  # the next probe
    Column("opened_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("updated_at", Float, nullable=False),
    _state_check(BreakerState),
)

events = Table(
    "events",
    metadata,
    Column("event_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("at", Float, nullable=False),
    Column("subject_kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("from_state", Text, nullable=False),
    Column("to_state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Index(None, "subject", "event_id"),
    Index(None, "event"),
    Index(None, "at"),
)

commitments = Table(
    "commitments",
    metadata,
    Column("commitment_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("transaction_uid", Text, nullable=False),
    Column("calling_ae_title", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("tried_since", Float, nullable=False),  # giving up counts from here
    Column("updated_at", Float, nullable=False),
    _state_check(CommitmentState),
    UniqueConstraint("calling_ae_title", "transaction_uid"),
    Index(None, "state", "not_before"),
)

commitment_references = Table(
    "commitment_references",
    metadata,
    Column("commitment_id", _NUMBER, ForeignKey("commitments.commitment_id"), primary_key=True),
    Column("reference_number", Integer, primary_key=True),
    Column("sop_class_uid", Text, nullable=False),
    Column("sop_instance_uid", Text, nullable=False),
)

announcements = Table(
    "announcements",
    metadata,
    Column("source_uid", Text, primary_key=True),  # of the procedure step or the notification
    Column("kind", Text, nullable=False),  # MPPS or IAN
    Column("calling_ae_title", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("announced_at", Float, nullable=False),
    Column("ended_at", Float),  # NULL while a procedure step is in progress
    Column("updated_at", Float, nullable=False),
)

announced_studies = Table(
    "announced_studies",
    metadata,
    Column("study_instance_uid", Text, primary_key=True),  # it may not have come yet
    Column("source_uid", Text, ForeignKey("announcements.source_uid"), primary_key=True),
    Index(None, "source_uid"),
)

announced_instances = Table(
    "announced_instances",
    metadata,
    Column("source_uid", Text, ForeignKey("announcements.source_uid"), primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("series_instance_uid", Text, nullable=False),
    Column("sop_class_uid", Text, nullable=False),
    Column("availability", Text, nullable=False),  # empty in a procedure step
)

header_keysets = Table(
    "header_keysets",
    metadata,
    Column("keyset", Text, primary_key=True),  # digest of the keywords
    Column("keywords", JSON, nullable=False),  # those that were looked for
)

series_headers = Table(
    "series_headers",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("attributes", JSON, nullable=False),  # of its first instance
)

instance_headers = Table(
    "instance_headers",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # of the bytes that it was read from
    Column("keyset", Text, ForeignKey("header_keysets.keyset"), nullable=False),
    Column("attributes", JSON, nullable=False),  # where they differ from the series'
    Column("unreadable", Text, nullable=False),  # why it could not be parsed, or empty
)

decisions = Table(
    "decisions",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("decision_number", Integer, primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("rule_set", Text, ForeignKey("rule_sets.rule_set"), nullable=False),
    Column("completeness", Text, nullable=False),
    Column("decided", JSON, nullable=False),
    Column("decided_at", Float, nullable=False),
    Index(None, "decided_at"),
)

rule_sets = Table(
    "rule_sets",
    metadata,
    Column("rule_set", Text, primary_key=True),  # SHA-256 of the text
    Column("text", Text, nullable=False),
    Column("loaded_at", Float, nullable=False),
)

awaited_findings = Table(
    "awaited_findings",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("engine_name", Text, primary_key=True),
)

drops = Table(
    "drops",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("rule", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("dropped_at", Float, nullable=False),
    Index(None, "dropped_at"),
)

forwards = Table(
    "forwards",
    metadata,
    Column("forward_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("destination", Text, nullable=False),
    Column("profile", Text, nullable=False),  # empty: as they came
    Column("rule", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("tried_since", Float, nullable=False),  # giving up counts from here
    Column("updated_at", Float, nullable=False),
    _state_check(FORWARD_STATES),
    UniqueConstraint("study_instance_uid", "destination", "profile"),
    Index(None, "state", "destination", "not_before"),
)

forwarded_instances = Table(
    "forwarded_instances",
    metadata,
    Column("forward_id", _NUMBER, ForeignKey("forwards.forward_id"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("sop_instance_uid", Text, primary_key=True),
    Column("digest", Text, nullable=False),  # of the bytes that were chosen
    Column("sent_at", Float),  # NULL until the destination has taken it
    Column("refused", Text, nullable=False),  # why it can never be sent, or empty
)

crosswalk = Table(
    "crosswalk",
    metadata,
    Column("crosswalk_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("profile", Text, nullable=False),
    Column("study_instance_uid", Text, nullable=False),  # of the copy
    Column("kind", Text, nullable=False),  # uid, date, or a keyword
    Column("original", Text, nullable=False),  # may be patient identity
    Column("replacement", Text, nullable=False),
    UniqueConstraint("study_instance_uid", "profile", "kind", "replacement"),
)

prior_fetches = Table(
    "prior_fetches",
    metadata,
    Column("fetch_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("job_id", Text, ForeignKey("jobs.job_id"), nullable=False),  # which waits for it
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("wanted", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("not_before", Float, nullable=False),
    Column("give_up_at", Float, nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    _state_check(FetchState),
    UniqueConstraint("job_id"),
    Index(None, "state", "source", "not_before"),
    Index(None, "study_instance_uid"),
)

fetched_priors = Table(
    "fetched_priors",
    metadata,
    Column("fetch_id", _NUMBER, ForeignKey("prior_fetches.fetch_id"), primary_key=True),
    Column("study_instance_uid", Text, primary_key=True),  # it may not have come yet
    Column("calling_ae_title", Text, nullable=False),  # as whom the archive sends
    Column("was_held", Boolean, nullable=False),  # it was here already, and nothing was asked for
    Column("instance_count", Integer, nullable=False),  # as the archive counts
    Column("failed", Integer, nullable=False),
    Column("is_whole", Boolean, nullable=False),
    Column("asked_at", Float, nullable=False),
    Column("ended_at", Float),  # NULL while it comes; later instances were not asked for
    Index(None, "study_instance_uid"),
)

carried = Table(  # what came through which association, repeats too
    "carried",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),
    Column("association_id", Text, ForeignKey("associations.association_id"), primary_key=True),
    Column("instance_count", Integer, nullable=False),
    Column("last_at", Float, nullable=False),
    Index(None, "association_id"),
)

verdicts = Table(
    "verdicts",
    metadata,
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), primary_key=True),
    Column("series_instance_uid", Text, primary_key=True),  # empty for the study
    Column("revision", Integer, primary_key=True),
    Column("verdict", Text, nullable=False),
    Column("spoke_for", JSON, nullable=False),
    Column("spoke_against", JSON, nullable=False),
    Column("at", Float, nullable=False),
)

paces = Table(
    "paces",
    metadata,
    Column("calling_ae_title", Text, primary_key=True),
    Column("modality", Text, primary_key=True),
    Column("silences", JSON, nullable=False),  # of recent studies: UID, released_s, open_s
    Column("updated_at", Float, nullable=False),
)

trials = Table(
    "trials",
    metadata,
    Column("trial_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("current_engine", Text, nullable=False),
    Column("current_version", Text, nullable=False),
    Column("candidate_engine", Text, nullable=False),
    Column("candidate_version", Text, nullable=False),
    Column("mode", Text, nullable=False),  # shadow or canary
    Column("share", Float, nullable=False),
    Column("stop", JSON, nullable=False),
    Column("state", Text, nullable=False),
    Column("counts_from", Float, nullable=False),  # for the stop rules
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    _state_check(TrialState),
    UniqueConstraint(
        *("current_engine", "current_version", "candidate_engine", "candidate_version"),
        name="uq_trials_versions",  # PostgreSQL has 63 characters for a name
    ),
)

comparisons = Table(
    "comparisons",
    metadata,
    Column("comparison_id", _NUMBER, primary_key=True, autoincrement=True),
    Column("trial_id", _NUMBER, ForeignKey("trials.trial_id"), nullable=False),
    Column("study_instance_uid", Text, ForeignKey("studies.study_instance_uid"), nullable=False),
    Column("series_instance_uid", Text, nullable=False),
    Column("current_job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("candidate_job_id", Text, ForeignKey("jobs.job_id"), nullable=False),
    Column("mode", Text, nullable=False),  # of the trial when the study was routed
    Column("state", Text, nullable=False),
    Column("agreement", JSON, nullable=False),
    Column("current_s", Float),  # NULL until it is compared
    Column("candidate_s", Float),
    Column("reason", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("updated_at", Float, nullable=False),
    _state_check(ComparisonState),
    UniqueConstraint("current_job_id", "candidate_job_id"),
    Index(None, "trial_id", "state"),
    Index(None, "study_instance_uid"),
    Index(None, "state"),
)

acceptances = Table(
    "acceptances",
    metadata,
    Column("destination", Text, primary_key=True),
    Column("sop_class_uid", Text, primary_key=True),
    Column("accepted", Boolean, nullable=False),
    Column("asked_at", Float, nullable=False),
)
