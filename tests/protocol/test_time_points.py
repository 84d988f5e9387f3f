"""Two sweeps of a chest CT in one series through a whole node that dies, and one that does not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pydicom
import pytest
from pydicom.uid import generate_uid

from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from tests.node_process import NodeProcess

pytestmark = pytest.mark.slow  # nodes are started three times

SEG = "1.2.840.10008.5.1.4.1.1.66.4"
REPORT = "1.2.840.10008.5.1.4.1.1.88.34"


@pytest.fixture
def sweeps(data_dir: Path, tmp_path: Path) -> list[list[Path]]:
    """Twelve slices through the lungs, twice; the second time a little denser."""
    files = sorted((data_dir / "ct-chest-lctsc-011").glob("*.dcm"))[18:30]
    folder = tmp_path / "sent"
    folder.mkdir()
    sweeps: list[list[Path]] = [[], []]
    for file in files:
        for number, sweep in enumerate(sweeps):
            dataset = pydicom.dcmread(file)
            dataset.TemporalPositionIdentifier = number + 1
            if number:
                dataset.decompress(generate_instance_uid=False)
                pixels = dataset.pixel_array
                dataset.PixelData = (pixels + pixels.dtype.type(5)).tobytes()
                dataset.SOPInstanceUID = generate_uid(entropy_srcs=[dataset.SOPInstanceUID])
                dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
            sweep.append(folder / f"{number}-{file.name}")
            dataset.save_as(sweep[-1])
    return sweeps


def results_of(folder: Path, port: int, sent: Sequence[Path], kill_at: str = "") -> dict[str, Path]:
    """Return what the archive got, by SOP Instance UID; each came once, with the same bytes."""
    with Archive(folder / "archive") as archive:
        peers = {
            "archive": {"ae_title": "ARCHIVE", "host": "127.0.0.1", "port": archive.port},
            "scanner": {"ae_title": "SCANNER", "may_send": True},
        }
        node = NodeProcess(folder / "node", port, peers=peers).start(kill_at)
        answers = send(sent, "127.0.0.1", port, called="DICOM_NODE")
        assert [answer.status for answer in answers] == [0] * len(sent)
        if kill_at:
            node.wait_killed()
            node.start()
        node.wait_done(1)
        assert node.stop() == 0
        assert archive.conflicts() == ()
        received = archive.received()
        assert [one.count for one in received] == [1] * len(received)
        return {one.sop_instance_uid: one.path for one in received}


def test_each_sweep_comes_back_with_a_seg_and_a_node_that_was_killed_makes_the_same(
    sweeps: list[list[Path]], free_port: int, tmp_path: Path
) -> None:
    sent = [file for sweep in sweeps for file in sweep]
    results = results_of(tmp_path / "one", free_port, sent)
    files = [pydicom.dcmread(path) for path in results.values()]
    segs = sorted(
        (one for one in files if one.SOPClassUID == SEG), key=lambda one: int(one.SeriesNumber)
    )
    [report] = [one for one in files if one.SOPClassUID == REPORT]
    assert len(files) == 3
    for seg, sweep in zip(segs, sweeps, strict=True):
        named = {
            str(frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID)
            for frame in seg.PerFrameFunctionalGroupsSequence
        }
        assert named <= {str(pydicom.dcmread(file).SOPInstanceUID) for file in sweep}
        assert len(named) > 6
        assert str(seg.SOPInstanceUID) in str(report.CurrentRequestedProcedureEvidenceSequence)

    killed = results_of(tmp_path / "other", free_port, sent[::-1], "encode.encoded")
    assert set(killed) == set(results)
