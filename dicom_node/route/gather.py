"""From the ledger to the facts that rules are asked of."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping

from dicom_node.history.keeper import HeaderKeeper
from dicom_node.ledger.fetches import was_asked_for
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import JobState
from dicom_node.model import Attributes, Instance, JobRole, Study
from dicom_node.route.facts import InstanceFacts, SeriesFacts, StudyFacts

_ALWAYS = frozenset(
    {"Modality", "SeriesDescription", "ImageOrientationPatient", "ImagePositionPatient"}
)
"""For titles and for the keywords of our own, whatever the rules ask."""
_ENDS = {JobState.DONE: "done", JobState.REFUSED: "refused", JobState.PARKED: "parked"}


class Gatherer:
    """Puts together what is known of a study.

    Parameters
    ----------
    peers : mapping
        From the AE title of a sender to its name in the configuration.
    """

    def __init__(self, ledger: Ledger, keeper: HeaderKeeper, peers: Mapping[str, str]) -> None:
        self._ledger = ledger
        self._keeper = keeper
        self._peers = peers

    def study(self, study: Study, keywords: Collection[str]) -> StudyFacts:
        """Return the facts of a study, with everything that conditions on `keywords` may ask.

        Raises
        ------
        Stopped
            If the node stops meanwhile.
        """
        uid = study.study_instance_uid
        instances = self._ledger.studies.instances(uid)
        by_series: dict[str, list[InstanceFacts]] = defaultdict(list)
        for instance, facts in self.instances(uid, instances, keywords):
            by_series[instance.series_instance_uid].append(facts)
        findings, by_job = self._findings(study)
        is_prior = all(one.is_prior for of_one in by_series.values() for one in of_one)
        return StudyFacts(
            study_instance_uid=uid,
            series=tuple(
                SeriesFacts(one, tuple(of_one), findings.get(one, {}), by_job.get(one, {}))
                for one, of_one in sorted(by_series.items())
            ),
            revision=study.revision,
            completeness=self._ledger.studies.completeness(uid),
            copied_by=self._copied_by(uid),
            released=study.released_revision == study.revision,
            prior_of=self._prior_of(uid) if by_series and is_prior else (),
        )

    def _copied_by(self, uid: str) -> str:
        """Return the profile by which a Study Instance UID was made; empty for a real one.

        A profile that retains UIDs makes none, and what comes for its copies is told from nothing.
        """
        return next(
            (
                entry.profile
                for entry in self._ledger.crosswalk.find(uid)
                if entry.replacement == uid and entry.original != uid
            ),
            "",
        )

    def instances(
        self, study_instance_uid: str, instances: list[Instance], keywords: Collection[str]
    ) -> list[tuple[Instance, InstanceFacts]]:
        """Return the facts of some instances of a study."""
        headers = self._keeper.of_study(study_instance_uid, instances)
        attributes = self._keeper.with_keywords(headers, instances, _ALWAYS.union(keywords))
        called = self._ledger.associations.called(study_instance_uid)
        askings = self._ledger.fetches.askings(study_instance_uid)
        gathered = []
        for instance in instances:
            key = (instance.series_instance_uid, instance.sop_instance_uid)
            facts = InstanceFacts(
                sop_instance_uid=instance.sop_instance_uid,
                digest=instance.digest,
                header=attributes[key],
                calling_ae_title=instance.calling_ae_title,
                called_ae_title=called.get(instance.association_id, ""),
                peer=self._peers.get(instance.calling_ae_title, ""),
                received_at=instance.received_at,
                unreadable=bool(headers[key].unreadable),
                is_prior=was_asked_for(instance, askings),
            )
            gathered.append((instance, facts))
        return gathered

    def _prior_of(self, study_instance_uid: str) -> tuple[str, ...]:
        askings = self._ledger.fetches.askings(study_instance_uid)
        return tuple(dict.fromkeys(current for current, _ in askings))

    def _findings(
        self, study: Study
    ) -> tuple[dict[str, dict[str, Attributes]], dict[str, dict[str, Attributes]]]:
        """Return by series what was found on this revision: by engine, and by job.

        Of several jobs of one engine the last counts, until it is known which is asked for.
        """
        by_engine: dict[str, dict[str, Attributes]] = defaultdict(dict)
        by_job: dict[str, dict[str, Attributes]] = defaultdict(dict)
        jobs = self._ledger.jobs.of_study(study.study_instance_uid)
        for job in sorted(jobs, key=lambda one: (one.created_at, one.job_id)):
            if job.role is not JobRole.CURRENT:
                continue  # rules follow on what the version in use has found
            if job.revision == study.revision and job.state in _ENDS:
                facts = {**job.facts, "outcome": (_ENDS[job.state],)}
                by_engine[job.series_instance_uid][job.engine_name] = facts
                by_job[job.series_instance_uid][job.job_id] = facts
        return by_engine, by_job
