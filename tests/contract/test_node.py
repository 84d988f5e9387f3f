"""The whole node on each database: a study in, its results out, killed in between."""

from __future__ import annotations

from pathlib import Path

import pydicom

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from dicom_node.lifecycle import JobState
from tests.node_process import NodeProcess


def test_a_killed_node_goes_on_where_it_stood(
    empty_url: str, data_dir: Path, tmp_path: Path, free_port: int
) -> None:
    xray = pydicom.dcmread(data_dir / "xray" / "dx-nih-00000001_000.dcm")
    xray.SeriesDescription = "Chest\0 PA"  # PostgreSQL takes no NUL
    xray.save_as(tmp_path / "xray.dcm")
    with Archive(tmp_path / "archive") as archive:
        peers = {
            "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port},
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        }
        node = NodeProcess(tmp_path / "node", free_port, peers=peers, ledger={"url": empty_url})
        node.start(kill_at="encode.saved")
        [answer] = send([tmp_path / "xray.dcm"], "127.0.0.1", free_port, called="DICOM_NODE")
        assert answer.status == 0
        node.wait_killed()
        node.start()
        node.wait_done(studies=1)
        ledger = node.ledger()
        assert len(ledger.jobs.in_states(JobState.DONE)) == 2
        assert ledger.events.named("STAGE_FAILED") == []
        ledger.close()
        assert [received.count for received in archive.received()] == [1, 1]
        assert archive.conflicts() == ()
        assert node.run_cli("status").returncode == 0
        assert node.stop() == 0
