"""A worker that dies costs the job one attempt; the third time parks it, and the node goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import echo, send
from dicom_node.lifecycle import JobState, StudyState
from tests.node_process import NodeProcess, wait_until


def _node(tmp_path: Path, port: int, archive: Archive, **sections: Any) -> NodeProcess:
    peer = {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port}
    scanner = {"ae_title": "SCANNER", "may_send": True}
    peers = {"archive": peer, "scanner": scanner}
    return NodeProcess(tmp_path / "node", port, peers=peers, **sections)


def test_a_killed_worker_is_started_again_and_the_job_is_done(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start_crashing("cxr_quality", times=1)
        xray = data_dir / "xray" / "dx-nih-00000001_000.dcm"
        assert send([xray], "127.0.0.1", free_port, called="DICOM_NODE")[0].status == 0
        node.wait_done(studies=1)
        ledger = node.ledger()
        jobs = ledger.jobs.in_states(JobState.DONE)
        assert len(jobs) == 2
        assert sorted(job.crashes for job in jobs) == [0, 1]
        assert len(archive.received()) == 2
        ledger.close()
        assert node.stop() == 0


def test_what_dies_together_is_done_alone_while_the_other_worker_goes_on(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    xrays = sorted((data_dir / "xray").glob("dx-nih-*.dcm"))[:4]
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive, infer={"devices": ["cpu", "cpu"]})
        node.start_crashing("cxr_quality", times=1)
        for answer in send(xrays, "127.0.0.1", free_port, called="DICOM_NODE"):
            assert answer.status == 0
        node.wait_done(studies=len(xrays))
        ledger = node.ledger()
        jobs = ledger.jobs.in_states(*JobState)
        assert [job.state for job in jobs] == [JobState.DONE] * 2 * len(xrays)
        crashed = [job for job in jobs if job.crashes]
        assert {job.engine_name for job in crashed} == {"cxr_quality"}
        assert {job.crashes for job in crashed} == {1}
        assert len(archive.received()) == 2 * len(xrays)
        ledger.close()
        assert "engine-worker-1-cpu" in node.log()
        assert "engine-worker-2-cpu" in node.log()
        assert node.stop() == 0


def test_three_crashes_park_the_job_and_the_rest_flow_until_it_is_retried(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start_crashing("cxr_quality", times=3)
        xray = data_dir / "xray" / "dx-nih-00000001_000.dcm"
        send([xray], "127.0.0.1", free_port, called="DICOM_NODE")
        node.wait_done(studies=1)
        ledger = node.ledger()
        [parked] = ledger.jobs.in_states(JobState.PARKED)
        assert parked.crashes == 2
        assert "killed by SIGKILL while it ran; 3 times" in parked.reason
        [_] = ledger.jobs.in_states(JobState.DONE)
        assert echo("127.0.0.1", free_port, called="DICOM_NODE") == 0
        assert node.run_cli("retry", parked.job_id).returncode == 0
        wait_until(lambda: len(archive.received()) == 2, what="the result of the retried job")
        ledger.close()
        assert node.stop() == 0


def test_a_frozen_worker_is_killed_and_the_job_is_done(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start()
        os.kill(node.child_pid("engine-worker"), signal.SIGSTOP)
        xray = data_dir / "xray" / "dx-nih-00000001_000.dcm"
        send([xray], "127.0.0.1", free_port, called="DICOM_NODE")
        node.wait_done(studies=1)
        assert len(archive.received()) == 2
        assert "frozen: no heartbeat" in node.log()
        assert node.stop() == 0


def test_a_killed_receiver_is_started_again_and_the_study_comes_through(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start()
        slices = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[18:30]

        def kill_the_receiver(answered: int) -> None:
            if answered == 4:
                os.kill(node.child_pid("receiver"), signal.SIGKILL)

        answers = send(slices, "127.0.0.1", free_port, called="DICOM_NODE", pause=kill_the_receiver)
        assert [answer.status for answer in answers][:5] == [0, 0, 0, 0, None]
        node.wait_listening()
        rest = [answer.file for answer in answers if answer.status != 0]
        send(rest, "127.0.0.1", free_port, called="DICOM_NODE")
        node.wait_done(studies=1)
        ledger = node.ledger()
        [study] = ledger.studies.in_states([StudyState.ROUTED])
        assert len(ledger.studies.instances(study.study_instance_uid)) == len(slices)
        assert [event.event for event in ledger.events.of("receiver")] == ["RESTARTED"]
        ledger.close()
        assert node.stop() == 0


def test_a_sigterm_to_every_process_is_a_stop_and_no_crash(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    """So does systemd stop a service."""
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive).start()
        slices = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))
        send(slices, "127.0.0.1", free_port, called="DICOM_NODE")
        ledger = node.ledger()
        wait_until(lambda: bool(ledger.jobs.in_states(JobState.RUNNING)), what="a running job")
        assert node.stop_group() == 0
        [job] = ledger.jobs.in_states(*JobState)
        assert job.crashes == 0
        assert job.state in {JobState.QUEUED, JobState.DONE}
        node.start()
        node.wait_done(studies=1)
        assert len(archive.received()) == 2
        ledger.close()
        assert node.stop() == 0


def test_a_job_that_takes_the_whole_node_down_three_times_is_parked(
    data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    with Archive(tmp_path / "archive") as archive:
        node = _node(tmp_path, free_port, archive)
        xray = data_dir / "xray" / "dx-nih-00000001_000.dcm"
        for fall in range(3):
            boundary = "infer.started:cxr_quality"
            node.start(kill_at=boundary, nth=fall + 1, until_it_listens=fall == 0)
            if fall == 0:
                send([xray], "127.0.0.1", free_port, called="DICOM_NODE")
            node.wait_killed()
        node.start()
        node.wait_done(studies=1)
        ledger = node.ledger()
        [parked] = ledger.jobs.in_states(JobState.PARKED)
        assert parked.engine_name == "cxr_quality"
        assert "the whole node was killed while it ran; 3 times" in parked.reason
        ledger.close()
        assert node.stop() == 0
