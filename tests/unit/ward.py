"""A ledger and a store with chest X-rays of some patients, routed to one engine; and workers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset

from dicom_node.config.settings import Config, InferSettings, NodeSettings
from dicom_node.infer.engine_folders import load_manifest
from dicom_node.ledger import schema
from dicom_node.ledger.database import Database
from dicom_node.lifecycle import JobState
from dicom_node.model import Job
from dicom_node.route.router import EngineLabel
from dicom_node.store.local import LocalStore
from dicom_node.worker import Worker
from tests import factories
from tests.factories import make_xray
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock
from tests.unit.route import made

ENGINES = Path(__file__).parents[2] / "engines"
ENGINE = "cxr_pneumonia"


class Ward:
    """Patients with an X-ray each.

    Parameters
    ----------
    engine : str
        The folder in `engines_dir` that each X-ray is routed to.
    """

    def __init__(self, folder: Path, engines_dir: Path = ENGINES, engine: str = ENGINE) -> None:
        self.engine_folder = engines_dir / engine
        node = NodeSettings(data_dir=folder / "data", engines_dir=engines_dir)
        self.config = Config(node=node, infer=InferSettings(threads=1, retry_first_s=10))
        self.ledger = rows.new_ledger(folder)
        self.store = LocalStore(self.config.node.data_dir)
        self.clock = HandClock()

    def worker(self, checkpoint: Callable[[str], None] = lambda name: None) -> Worker:
        return Worker(self.config, self.ledger, self.store, self.clock, checkpoint)

    def receive(self, number: int, **changes: Any) -> str:
        """Store the X-ray of a patient, which differs from any other's; return its study."""
        study = f"{factories.STUDY}.{number}"
        pixels = make_xray().pixel_array.astype(np.uint16)
        pixels[number * 16 : number * 16 + 60, 40:160] += np.uint16(90 + 10 * number)
        given = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", **changes}
        self.store_instance(make_xray(pixels, **given))
        return study

    def store_instance(self, dataset: Dataset) -> None:
        file = factories.write(dataset, self.store.path(f"instances/{dataset.SOPInstanceUID}.dcm"))
        self.ledger.studies.instance_stored(
            rows.an_instance(
                sop_instance_uid=str(dataset.SOPInstanceUID),
                study_instance_uid=str(dataset.StudyInstanceUID),
                series_instance_uid=str(dataset.SeriesInstanceUID),
                path=str(file.relative_to(self.store.root)),
                digest=hashlib.sha256(file.read_bytes()).hexdigest(),
            )
        )

    def route(self) -> list[str]:
        """Complete and route every study; return the jobs in the order of the studies."""
        for evidence in self.ledger.studies.receiving():
            self.ledger.studies.completed(evidence, "quiet", 900.0)
        manifest = load_manifest(self.engine_folder)
        labels = {manifest.name: EngineLabel(manifest.version, manifest.model_digest)}
        rule = made.engine_rule("chest", {"Modality": ["CR", "DX"]}, manifest.name)
        made.router(self.ledger, self.store, (rule,), labels, self.clock).turn()
        jobs = self.ledger.jobs.in_states(JobState.QUEUED)
        return [job.job_id for job in sorted(jobs, key=lambda job: job.study_instance_uid)]

    def job(self, job_id: str) -> Job:
        return rows.job_of(self.ledger, job_id)

    def states(self, job_ids: list[str]) -> list[str]:
        return [self.job(job_id).state.value for job_id in job_ids]

    def results(self) -> dict[str, bytes]:
        folder = self.store.root / "results"
        return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*.dcm")}

    def forget(self) -> None:
        """Have every job done anew, as if nothing had come of it."""
        for name in self.results():
            self.store.path(f"results/{name}").unlink()
        database = Database(f"sqlite:///{self.store.root.parent / 'ledger.sqlite'}")
        with database.writing() as connection:
            for table in (schema.deliveries, schema.results):
                connection.execute(table.delete())
            connection.execute(schema.jobs.update().values(state="QUEUED"))
        database.close()
