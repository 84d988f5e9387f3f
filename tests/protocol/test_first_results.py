"""What an archive takes is known before the first result for it is encoded; on a whole node."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import FileDataset

from dicom_node.finding import FindingKind
from dicom_node.harness.archive import Archive
from dicom_node.harness.scanner import send
from dicom_node.infer.scaffold import Wanted, new_engine
from dicom_node.infer.scaffold_text import Sees
from dicom_node.ledger.ledger import Ledger
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE
from tests.factories import make_ct_series, make_enhanced, write_series
from tests.node_process import NodeProcess, is_done, wait_until

pytestmark = pytest.mark.slow

LABELMAP = LABELMAP_SEGMENTATION_STORAGE
NAMES = ("modern", "old", "fractions", "away")


def an_enhanced_ct(folder: Path, study: str) -> list[Path]:
    """Write one enhanced CT of five frames: something dense in three, half as dense in all."""
    pixels = np.full((5, 64, 64), -1000, np.int16)
    pixels[:, 5:9, 5:9] = -400  # 12 % for the engine
    pixels[1:4, 20:40, 20:40] = 40
    uids: dict[str, Any] = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1"}
    return write_series([make_enhanced(make_ct_series(pixels=pixels, **uids))], folder)


def an_engine(folder: Path) -> Path:
    """Write an engine that draws what is dense, and says how likely each voxel is."""
    made = new_engine(folder, "dense", Wanted(FindingKind.SEGMENTATION, Sees.SLICE))
    manifest = made / "engine.yaml"
    manifest.write_text(manifest.read_text("utf-8") + "\nprobabilities: true\n", "utf-8")
    return folder


def segmentation_of(archive: Archive, study: str) -> FileDataset:
    """Return the Segmentation that an archive has of a study."""
    read = [
        pydicom.dcmread(one.path) for one in archive.received() if one.study_instance_uid == study
    ]
    [seg] = [one for one in read if one.Modality == "SEG"]
    return seg


def accepting(ledger: Ledger) -> frozenset[str]:
    return ledger.acceptances.accepting(LABELMAP)


def test_each_archive_gets_its_encoding_from_the_first_result_on(
    tmp_path: Path, free_port: int
) -> None:
    """One takes label maps, one refuses them, one wants fractions, one is down when we start."""
    rule = {
        "name": "ct",
        "when": {"Modality": "CT"},
        "engines": ["dense"],
        "destinations": list(NAMES),
    }
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump({"rules": [rule]}))
    refused = {"old": [LABELMAP]}
    archives = {
        name: Archive(tmp_path / name, refused_sop_class_uids=refused.get(name, ())).start()
        for name in NAMES
    }
    archives["away"].stop()
    peers = {
        name: {"ae_title": name.upper(), "host": "127.0.0.1", "port": one.port, "results": "own"}
        for name, one in archives.items()
    }
    peers["fractions"]["results"] = "likely"
    node = NodeProcess(
        tmp_path / "node",
        free_port,
        peers={**peers, "scanner": {"ae_title": "SCANNER", "may_send": True}},
        node={
            "rules_file": str(tmp_path / "rules.yaml"),
            "engines_dir": str(an_engine(tmp_path / "engines")),
        },
        results_profiles={
            "own": {"objects": ["SEG", "SC", "PR", "PDF", "KO"], "labelmap": "auto"},
            "likely": {"objects": ["SEG"], "fractional": "auto"},
        },
    ).start()
    ledger = node.ledger()
    try:
        reached = [name for name in NAMES if name != "away"]
        wait_until(lambda: all(_was_asked(ledger, name) for name in reached), 30, "the answers")
        send(
            an_enhanced_ct(tmp_path / "first", "1.2.3"), "127.0.0.1", free_port, called="DICOM_NODE"
        )
        for name in ("modern", "old", "fractions"):
            wait_until(partial(_has_all, archives[name], name), 90, f"results at {name}")
        modern, old, likely = (
            segmentation_of(archives[name], "1.2.3") for name in ("modern", "old", "fractions")
        )
        assert modern.SOPClassUID == LABELMAP
        assert old.SegmentationType == "BINARY"
        assert likely.SegmentationType == "FRACTIONAL"
        assert likely.SegmentationFractionalType == "PROBABILITY"
        assert likely.NumberOfFrames == 5, "frames where nothing is drawn are not impossible"
        assert modern.NumberOfFrames == old.NumberOfFrames == 3
        assert {"modern", "fractions"} <= accepting(ledger)
        assert not {"old", "away"} & accepting(ledger)

        archives["away"].start()
        wait_until(lambda: "away" in accepting(ledger), 30, "the question to who came back")
        wait_until(lambda: _has_all(archives["away"], "away"), 30, "results at away")
        assert segmentation_of(archives["away"], "1.2.3").SegmentationType == "BINARY"
        send(
            an_enhanced_ct(tmp_path / "second", "1.2.4"),
            "127.0.0.1",
            free_port,
            called="DICOM_NODE",
        )
        wait_until(lambda: is_done(ledger, 2), 90, "the end of all work")
        assert segmentation_of(archives["away"], "1.2.4").SOPClassUID == LABELMAP
    finally:
        ledger.close()
        node.stop()
        for archive in archives.values():
            archive.stop()


def _was_asked(ledger: Ledger, name: str) -> bool:
    return ledger.acceptances.asked_at(name, LABELMAP) is not None


def _has_all(archive: Archive, name: str) -> bool:
    expected = {"fractions": 2}.get(name, 6)
    return len(archive.received()) >= expected
