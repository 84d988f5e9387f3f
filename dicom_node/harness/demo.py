"""`make demo`: a node, an archive, real studies through both, and a table of what came back."""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pydicom
from rich.box import SIMPLE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.archive import Archive
from dicom_node.harness.pictures import picture_of_seg, picture_of_sr
from dicom_node.harness.scanner import echo, send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState
from dicom_node.model import Job

_TIMEOUT_S = 120.0
_LOOK_EVERY_S = 0.2
_QUIET_S = 2

_ON_THE_WAY = (DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.SENT)
_STAGES = ("receive", "assemble", "route", "wait", "infer", "encode", "deliver")
_WIDTH_MIN = 130

console = Console(highlight=False, markup=False)
if not console.is_terminal:
    console = Console(highlight=False, markup=False, width=_WIDTH_MIN)


@dataclass(frozen=True)
class Sample:
    """A study that the demo sends, and how many results must come back."""

    title: str
    files: tuple[Path, ...]
    results: int

    @property
    def study_instance_uid(self) -> str:
        header = pydicom.dcmread(self.files[0], stop_before_pixels=True)
        return str(header.StudyInstanceUID)


def samples(data: Path) -> list[Sample]:
    """Return the studies of the demo."""
    xray = data / "xray"
    return [
        Sample("chest CT", tuple(sorted((data / "ct-chest-lctsc-011").glob("*.dcm"))), 2),
        Sample("chest X-ray, NIH 1", (xray / "dx-nih-00000001_000.dcm",), 2),
        Sample("chest X-ray, NIH 2", (xray / "dx-nih-00000002_000.dcm",), 2),
        Sample("chest X-ray, Philips", (xray / "cr-chest-philips-j2k-RG1.dcm",), 2),
        Sample("arm X-ray", (xray / "cr-extremity-fuji-j2k-RG3.dcm",), 0),
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; return 0 only if every expected result arrived, and nothing else."""
    parser = argparse.ArgumentParser(prog="demo", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the sample studies")
    parser.add_argument("--engines", type=Path, required=True, help="folder of engine folders")
    parser.add_argument("--rules", type=Path, default=Path("config/rules.yaml"))
    parser.add_argument("--work", type=Path, default=Path(".demo"), help="made anew each time")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    shutil.rmtree(options.work, ignore_errors=True)
    options.work.mkdir(parents=True)
    studies = samples(options.data)
    with Archive(options.work / "archive") as archive:
        port = _free_port()
        config = _write_config(options, port, archive.port)
        with (options.work / "node.log").open("w") as log:
            command = [sys.executable, "-m", "dicom_node", "serve", "--config", str(config)]
            node = subprocess.Popen(command, stderr=log)
        try:
            ledger = _run(studies, node, port, archive, options.work)
            missing = _show(studies, ledger, archive)
            ledger.close()
            _draw(studies, archive, options.work / "pictures")
        finally:
            node.send_signal(signal.SIGTERM)
            node.wait(30)
    console.print(f"{time.monotonic() - started:.0f} s in all")
    for line in missing:
        console.print(f"NOT AS EXPECTED: {line}", style="red")
    return 1 if missing else 0


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _write_config(options: argparse.Namespace, port: int, archive_port: int) -> Path:
    config = Path(options.work, "node.yaml")
    config.write_text(
        f"""\
node:
  ae_title: DICOM_NODE
  data_dir: node
  engines_dir: {options.engines.resolve()}
  rules_file: {options.rules.resolve()}
receive: {{host: 127.0.0.1, port: {port}}}
assemble: {{quiet_after_release_s: {_QUIET_S}}}
peers:
  scanner: {{ae_title: SCANNER, may_send: true}}
  archive: {{ae_title: ARCHIVE, host: 127.0.0.1, port: {archive_port}}}
"""
    )
    return config


def _run(
    studies: Sequence[Sample],
    node: subprocess.Popen[bytes],
    port: int,
    archive: Archive,
    work: Path,
) -> Ledger:
    """Send the studies and wait until the ledger says that all is done."""
    expected = sum(study.results for study in studies)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as progress:
        sending = progress.add_task("sending by C-STORE", total=sum(len(s.files) for s in studies))
        arriving = progress.add_task("results in the archive", total=expected)
        _wait_for_node(node, port, work)
        for study in studies:
            answers = send(study.files, "127.0.0.1", port, calling="SCANNER", called="DICOM_NODE")
            refused = [answer for answer in answers if answer.status != 0]
            if refused:
                raise SystemExit(f"{study.title}: {len(refused)} instances were refused")
            progress.advance(sending, len(answers))
        ledger = Ledger(f"sqlite:///{work.resolve() / 'node' / 'ledger.sqlite'}")
        deadline = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < deadline and not _is_done(studies, ledger):
            progress.update(arriving, completed=len(archive.received()))
            time.sleep(_LOOK_EVERY_S)
        progress.update(arriving, completed=len(archive.received()))
    return ledger


def _wait_for_node(node: subprocess.Popen[bytes], port: int, work: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        if node.poll() is not None:
            raise SystemExit(f"the node ended at once; see {work / 'node.log'}")
        try:
            if echo("127.0.0.1", port, calling="SCANNER", called="DICOM_NODE") == 0:
                return
        except PeerUnreachable:
            time.sleep(_LOOK_EVERY_S)
    raise SystemExit(f"the node does not listen; see {work / 'node.log'}")


def _is_done(studies: Sequence[Sample], ledger: Ledger) -> bool:
    """Return whether each study is routed, each job ended and each delivery too."""
    for study in studies:
        known = ledger.studies.get(study.study_instance_uid)
        if known is None or known.state != "ROUTED":
            return False
    open_jobs = ledger.jobs.in_states(JobState.QUEUED, JobState.RUNNING)
    waiting = ledger.deliveries.in_states(*_ON_THE_WAY)
    return not open_jobs and not waiting


def _show(studies: Sequence[Sample], ledger: Ledger, archive: Archive) -> list[str]:
    """Print the tables; return what is not as expected."""
    found = Table("study", "rule", "engine", "finding", "results in the archive", box=SIMPLE)
    spent = Table("seconds", *_STAGES, box=SIMPLE)
    missing = []
    for study in studies:
        uid = study.study_instance_uid
        arrived = {r.sop_instance_uid for r in archive.received() if r.study_instance_uid == uid}
        if len(arrived) != study.results:
            missing.append(f"{study.title}: {len(arrived)} results, not {study.results}")
        jobs = ledger.jobs.of_study(uid)
        for job in jobs:
            results = [
                r for r in ledger.results.of_job(job.job_id) if r.sop_instance_uid in arrived
            ]
            found.add_row(
                study.title,
                job.rule,
                f"{job.engine_name} {job.engine_version}",
                job.summary or f"{job.state}: {job.reason}",
                ", ".join(_class_name(r.sop_class_uid) for r in results) or "none",
            )
            seconds = _seconds(ledger, job)
            title = f"{study.title}, {job.engine_name}"
            spent.add_row(title, *(f"{seconds[stage]:.1f}" for stage in _STAGES))
        if not jobs:
            found.add_row(study.title, "none matched", "none", "none", "none")
    if archive.conflicts():
        missing.append(f"{len(archive.conflicts())} results came twice with other bytes")
    console.print(found, spent)
    return missing


def _class_name(sop_class_uid: str) -> str:
    return pydicom.uid.UID(sop_class_uid).name.removesuffix(" Storage")


def _seconds(ledger: Ledger, job: Job) -> dict[str, float]:
    """Return what each stage took, from the ledger's events."""
    events = ledger.events
    at = {event.event: event.at for event in events.of(job.study_instance_uid)}
    at |= {f"JOB_{event.event}": event.at for event in events.of(job.job_id)}
    received = [i.received_at for i in ledger.studies.instances(job.study_instance_uid)]
    parcels = ledger.deliveries.of_job(job.job_id)
    sent = [parcel.delivery.sent_at or 0.0 for parcel in parcels]
    return {
        "receive": max(received) - at["INSTANCE_STORED"],
        "assemble": at["COMPLETED"] - max(received),
        "route": at["ROUTED"] - at["COMPLETED"],
        "wait": at.get("JOB_STARTED", at["ROUTED"]) - at["ROUTED"],
        "infer": job.seconds.get("infer", 0.0),
        "encode": job.seconds.get("encode", 0.0),
        "deliver": max(sent) - at["JOB_FINISHED"] if sent else 0.0,
    }


def _draw(studies: Sequence[Sample], archive: Archive, folder: Path) -> None:
    """Write a PNG for each result that the archive got."""
    folder.mkdir()
    sources = {}
    for path in (path for study in studies for path in study.files):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        sources[str(header.SOPInstanceUID)] = path
    titles = {study.study_instance_uid: study.title for study in studies}
    for received in archive.received():
        result = pydicom.dcmread(received.path)
        make = picture_of_seg if result.Modality == "SEG" else picture_of_sr
        title = titles[received.study_instance_uid].replace(",", "").replace(" ", "-")
        engine = str(result.SeriesDescription).split()[0]
        picture = folder / f"{title}-{engine}-{result.Modality}.png"
        make(result, sources).save(picture)
    console.print(f"what the archive got: {archive.folder}; pictures: {folder}")


if __name__ == "__main__":
    sys.exit(main())
