"""The child process that owns one device: infer, then encode, one job or one batch at a time."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice

import structlog

from dicom_node import __version__
from dicom_node.backoff import delay_s
from dicom_node.clock import Checkpoint, Clock
from dicom_node.comparer import Comparer
from dicom_node.config.settings import Config
from dicom_node.encode.results import Encoded, Stamp
from dicom_node.errors import DeviceLost, DicomNodeError, StorageError, StudyUnusable
from dicom_node.executor.child import ChildLink
from dicom_node.headers import Part10
from dicom_node.infer.batch import Answer, ImageBatch, PreparedImages
from dicom_node.infer.beside import Others
from dicom_node.infer.devices import Device, environment_for
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.parameters import facts_of
from dicom_node.infer.runtimes.choice import wishes_of
from dicom_node.inference import Outcome, encode_found, infer_and_encode
from dicom_node.ledger.ledger import Ledger
from dicom_node.logs import configure_logs
from dicom_node.model import REJECTION, InstanceKey, Job, Result
from dicom_node.outgoing import Outgoing, saved
from dicom_node.route.router import EngineLabel, input_of, job_id
from dicom_node.store.local import LocalStore, study_folder

log = structlog.get_logger()


def work(link: ChildLink, config: Config, device: Device, checkpoint: Checkpoint) -> None:
    """Do the jobs and comparisons that the supervisor names until it says stop, or is gone."""
    configure_logs(config.node.log_level)
    os.environ.update(environment_for(device, os.environ))  # before a library looks for devices
    ledger = Ledger(config.ledger_url)
    store = LocalStore(config.node.data_dir, checkpoint=checkpoint)
    worker = Worker(config, ledger, store, time.time, checkpoint)
    comparer = Comparer(ledger, store, time.time)
    while (message := link.receive())[0] != "stop":
        what, keys = message
        if what == "compare":
            comparer.compare(*keys)
        else:
            worker.do(*keys)
        link.send("done", keys)
    ledger.close()


@dataclass(frozen=True, eq=False)
class _Prepared:
    """A job of a batch whose images the network can be asked about."""

    job: Job
    engine: Engine
    images: PreparedImages
    files: Sequence[Part10]
    seconds: float
    """What it took until here."""


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
        self._batches: dict[str, ImageBatch] = {}
        self._outgoing = Outgoing(config, ledger, store)

    def do(self, *keys: str) -> None:
        """Take jobs, those still to be had, and end the attempt at each one way or the other.

        Several must be of one engine that looks at single images: its network is asked about all
        of them at once. What becomes of one touches no other.
        """
        jobs = self._ledger.jobs.start_all(keys, self._clock())
        for job in jobs:
            self._checkpoint(f"infer.started:{job.engine_name}")
        if len(jobs) > 1:
            self._attempt_together(jobs)
            return
        for job in jobs:
            with self._ending(job):
                self._attempt(job)

    @contextmanager
    def _ending(self, job: Job) -> Iterator[None]:
        """Note what goes wrong with a job, and go on."""
        try:
            yield
        except StudyUnusable as error:
            self._ledger.jobs.refuse(job, error.in_words, self._clock())
            log.warning(
                "job_refused", job_id=job.job_id, engine=job.engine_name, reason=error.in_words
            )
        except Exception as error:
            log.exception("job_failed", job_id=job.job_id, engine=job.engine_name)
            self._failed(job, error)
            if isinstance(error, DeviceLost):
                raise  # every job after this one would fail too: only a new process mends it

    def _attempt(self, job: Job) -> None:
        started = time.perf_counter()
        opened = self._opened(job)
        if opened is None:
            return
        engine, files, others = opened
        outcome = infer_and_encode(
            engine,
            files,
            job.created_at,
            job.job_id,
            self._config.node.ae_title,
            predecessors=self._ledger.results.earlier_reports(job),
            between=lambda: self._checkpoint("infer.inferred"),
            others=others,
            rejected=self._outgoing.rejected(job),
            wishes=self._outgoing.wishes(job),
        )
        self._finish(job, outcome, started)

    def _attempt_together(self, jobs: Sequence[Job]) -> None:
        """Prepare each job's images, ask the network about all of them, conclude each by itself."""
        # what was superseded meanwhile is not asked about any more
        wanted = [one for one in self._all_prepared(jobs) if self._ledger.jobs.is_current(one.job)]
        if not wanted:
            return
        batch = self._batch(wanted[0])
        tensors = [tensor for one in wanted for tensor in one.images.tensors]
        started = time.perf_counter()
        answers = iter(batch.ask(tensors))
        each_s = (time.perf_counter() - started) / len(tensors)
        for one in wanted:
            its_own = list(islice(answers, len(one.images.tensors)))
            with self._ending(one.job):
                self._conclude(one, batch, its_own, one.seconds + each_s * len(its_own))

    def _all_prepared(self, jobs: Sequence[Job]) -> list[_Prepared]:
        """Return jobs with their images as the network sees them, without those that end here.

        Decoding is most of what a batch costs, and lets other threads run: it takes all of ours.
        """
        opened = []
        for job in jobs:
            with self._ending(job):
                found = self._opened(job)
                if found is not None:
                    opened.append((job, *found[:2]))
        with ThreadPoolExecutor(self._config.infer.threads) as pool:
            preparing = [pool.submit(_timed, engine.prepare, files) for _, engine, files in opened]
        prepared = []
        for (job, engine, files), task in zip(opened, preparing, strict=True):
            with self._ending(job):
                images, seconds = task.result()
                prepared.append(_Prepared(job, engine, images, files, seconds))
        return prepared

    def _conclude(
        self, one: _Prepared, batch: ImageBatch, answers: Sequence[Answer | None], infer_s: float
    ) -> None:
        started = time.perf_counter()
        whole = [
            batch.alone(tensor) if answer is None else answer
            for tensor, answer in zip(one.images.tensors, answers, strict=True)
        ]
        finding, headers = one.engine.conclude(one.images, whole)
        self._checkpoint("infer.inferred")
        job = one.job
        predecessors = tuple(self._ledger.results.earlier_reports(job))
        ae_title = self._config.node.ae_title
        stamp = Stamp(job.created_at, ae_title, __version__, job.job_id, predecessors)
        concluded_s = time.perf_counter() - started
        outgoing = self._outgoing
        outcome = encode_found(
            finding,
            headers,
            stamp,
            infer_s + concluded_s,
            one.files,
            outgoing.wishes(job),
            outgoing.rejected(job),
        )
        self._finish(job, outcome, started - infer_s)

    def _opened(self, job: Job) -> tuple[Engine, list[Part10], Others] | None:
        """Return a job's engine, its files and what lies beside; None if it is outdated."""
        study_uid, series_uid = job.study_instance_uid, job.series_instance_uid
        engine = self._engine(job)
        manifest = engine.manifest
        label = EngineLabel(manifest.version, manifest.model_digest, manifest.reads_study)
        keys = input_of(self._ledger, study_uid, "" if label.reads_study else series_uid)
        if job_id(study_uid, keys, job.engine_name, label, job.parameters) != job.job_id:
            self._outdated(job, label)
            return None
        series = self._files(study_uid, set(keys))
        files = series.pop(series_uid, [])
        others = Others(list(series.values()), self._priors(job) if manifest.reads_priors else ())
        return engine.with_parameters(job.parameters), files, others

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

    def _finish(self, job: Job, outcome: Outcome, started: float) -> None:
        self._checkpoint("encode.encoded")
        results = [self._save(job, encoded) for encoded in outcome.encoded]
        self._checkpoint("encode.saved")
        if reason := self._outgoing.held_back(job, outcome, results):
            self._ledger.jobs.give_up(job, reason, self._clock())
            log.error("results_held_back", job_id=job.job_id, reason=reason)
            return
        seconds = {**outcome.seconds, "work": round(time.perf_counter() - started, 3)}
        summary = "; ".join((outcome.finding.summary, *outcome.finding.warnings))
        facts = facts_of(outcome.finding)
        if self._ledger.jobs.finish(
            job,
            results,
            summary,
            seconds,
            self._clock(),
            facts,
            outcome.renditions,
            only_to={REJECTION: self._outgoing.told_of_rejections(job)},
        ):
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
            for parity in engine.parities:
                self._ledger.engines.record_parity(
                    self._clock(), job.engine_name, accepted=parity.accepted, reason=parity.in_words
                )
        return engine

    def _batch(self, one: _Prepared) -> ImageBatch:
        """Return what asks an engine's network about many images; it remembers what it can."""
        name = one.job.engine_name
        if name not in self._batches:
            self._batches[name] = one.engine.batch(self._config.infer.batch_max)
        return self._batches[name]

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
        return saved(encoded, job.job_id, relative, self._store.save)

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


def _timed(
    prepare: Callable[[Sequence[Part10]], PreparedImages], files: Sequence[Part10]
) -> tuple[PreparedImages, float]:
    started = time.perf_counter()
    return prepare(files), time.perf_counter() - started
