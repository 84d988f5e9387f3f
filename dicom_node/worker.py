"""The child process that owns one device: infer, then encode, one job at a time."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection

import structlog

from dicom_node.backoff import delay_s
from dicom_node.clock import Checkpoint, Clock
from dicom_node.config.settings import Config
from dicom_node.encode.results import Encoded
from dicom_node.errors import DicomNodeError, StorageError, StudyUnusable
from dicom_node.executor.child import ChildLink
from dicom_node.headers import Part10
from dicom_node.infer.beside import Others
from dicom_node.infer.engine import Engine, load_engine
from dicom_node.infer.parameters import facts_of
from dicom_node.infer.runtimes.choice import wishes_of
from dicom_node.inference import Outcome, infer_and_encode
from dicom_node.ledger.ledger import Ledger
from dicom_node.logs import configure_logs
from dicom_node.model import InstanceKey, Job, Result
from dicom_node.route.router import EngineLabel, input_of, job_id
from dicom_node.store.local import LocalStore, study_folder

log = structlog.get_logger()


def work(link: ChildLink, config: Config, checkpoint: Checkpoint) -> None:
    """Do the jobs that the supervisor names until it says stop, or is gone."""
    configure_logs(config.node.log_level)
    ledger = Ledger(config.ledger_url)
    store = LocalStore(config.node.data_dir, checkpoint=checkpoint)
    worker = Worker(config, ledger, store, time.time, checkpoint)
    while (message := link.receive())[0] != "stop":
        worker.do(message[1])
        link.send("done", message[1])
    ledger.close()


class Worker:
    """Moves jobs from QUEUED to DONE, REFUSED or PARKED; keeps the engines that it has loaded."""

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        store: LocalStore,
        clock: Clock,
        checkpoint: Checkpoint,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._checkpoint = checkpoint
        self._engines: dict[str, Engine] = {}

    def do(self, key: str) -> None:
        """Take a job, if it is still to be had, and end its attempt one way or the other."""
        job = self._ledger.jobs.start(key, self._clock())
        if job is None:
            return
        self._checkpoint(f"infer.started:{job.engine_name}")
        try:
            self._attempt(job)
        except StudyUnusable as error:
            self._ledger.jobs.refuse(job, error.in_words, self._clock())
            log.warning(
                "job_refused", job_id=job.job_id, engine=job.engine_name, reason=error.in_words
            )
        except Exception as error:
            log.exception("job_failed", job_id=job.job_id, engine=job.engine_name)
            self._failed(job, error)

    def _attempt(self, job: Job) -> None:
        read_at = time.perf_counter()
        study_uid, series_uid = job.study_instance_uid, job.series_instance_uid
        engine = self._engine(job)
        manifest = engine.manifest
        label = EngineLabel(manifest.version, manifest.model_digest, manifest.reads_study)
        keys = input_of(self._ledger, study_uid, "" if label.reads_study else series_uid)
        if job_id(study_uid, keys, job.engine_name, label, job.parameters) != job.job_id:
            self._outdated(job, label)
            return
        series = self._files(study_uid, set(keys))
        files = series.pop(series_uid, [])
        others = Others(list(series.values()), self._priors(job) if manifest.reads_priors else ())
        outcome = infer_and_encode(
            engine.with_parameters(job.parameters),
            files,
            job.created_at,
            job.job_id,
            self._config.node.ae_title,
            predecessors=self._ledger.jobs.earlier_reports(job),
            between=lambda: self._checkpoint("infer.inferred"),
            others=others,
        )
        self._checkpoint("encode.encoded")
        results = [self._save(job, encoded) for encoded in outcome.encoded]
        self._checkpoint("encode.saved")
        seconds = {**outcome.seconds, "work": round(time.perf_counter() - read_at, 3)}
        self._finish(job, outcome, results, seconds)

    def _files(
        self, study_uid: str, wanted: Collection[InstanceKey] | None = None
    ) -> dict[str, list[Part10]]:
        """Return the files of a study by series, or those of some of its instances."""
        series: dict[str, list[Part10]] = {}
        for one in self._ledger.studies.instances(study_uid):
            key = InstanceKey(one.series_instance_uid, one.sop_instance_uid, one.digest)
            if wanted is None or key in wanted:
                series.setdefault(one.series_instance_uid, []).append(self._store.file(one.path))
        return series

    def _priors(self, job: Job) -> list[list[Part10]]:
        """Return the series of the prior studies that were fetched for a job."""
        return [
            files
            for study_uid in self._ledger.fetches.of_job(job.job_id)
            for files in self._files(study_uid).values()
        ]

    def _finish(
        self, job: Job, outcome: Outcome, results: list[Result], seconds: dict[str, float]
    ) -> None:
        summary = "; ".join((outcome.finding.summary, *outcome.finding.warnings))
        facts = facts_of(outcome.finding)
        if self._ledger.jobs.finish(job, results, summary, seconds, self._clock(), facts):
            self._checkpoint("infer.recorded")
            log.info(
                "job_done",
                job_id=job.job_id,
                engine=job.engine_name,
                results=len(results),
                **seconds,
            )
        else:
            log.warning("late_result_dropped", job_id=job.job_id, attempt=job.attempt)

    def _engine(self, job: Job) -> Engine:
        engine = self._engines.get(job.engine_name)
        if engine is None:
            folder = self._config.node.engines_dir / job.engine_name
            engine = load_engine(
                folder, threads=self._config.infer.threads, wishes=wishes_of(self._config)
            )
            self._engines[job.engine_name] = engine
        return engine

    def _outdated(self, job: Job, label: EngineLabel) -> None:
        """Never run a job on another input, or with another engine, than it was made for."""
        now = self._clock()
        study = self._ledger.studies.get(job.study_instance_uid)
        if study is not None and study.revision != job.revision:
            reason = "the series changed since; the study's next revision makes a new job"
            self._ledger.jobs.supersede(job, reason, now)
            return
        reason = (
            f"engine {job.engine_name} {job.engine_version} was changed on disk (now "
            f"{label.version}) while the node runs; restart the node: it routes the study again"
        )
        self._ledger.jobs.give_up(job, reason, now)

    def _save(self, job: Job, encoded: Encoded) -> Result:
        folder = study_folder("results", job.study_instance_uid)
        relative = f"{folder}/{job.job_id}/{encoded.sop_instance_uid}.dcm"
        size_bytes = self._store.save(relative, [encoded.content])
        return Result(
            sop_instance_uid=encoded.sop_instance_uid,
            sop_class_uid=encoded.sop_class_uid,
            series_instance_uid=encoded.series_instance_uid,
            study_instance_uid=encoded.study_instance_uid,
            transfer_syntax_uid=encoded.transfer_syntax_uid,
            job_id=job.job_id,
            kind=encoded.kind,
            path=relative,
            size_bytes=size_bytes,
            digest=hashlib.sha256(encoded.content).hexdigest(),
        )

    def _failed(self, job: Job, error: Exception) -> None:
        """Try again later; park at once what no repetition mends."""
        settings, now = self._config.infer, self._clock()
        reason = error.message if isinstance(error, DicomNodeError) else type(error).__name__
        wait_s = delay_s(job.failures + 1, settings.retry_first_s, 3600.0)
        if isinstance(error, StorageError):  # a full disk is no fault of the job's
            self._ledger.jobs.fail(job, reason, now + wait_s, now, counts=False)
        elif isinstance(error, DicomNodeError) and not error.retryable:
            self._ledger.jobs.give_up(job, error.in_words, now)
        elif job.failures + 1 >= settings.attempts_max:
            self._ledger.jobs.give_up(job, f"failed {job.failures + 1} times: {reason}", now)
        else:
            self._ledger.jobs.fail(job, reason, now + wait_s, now)
