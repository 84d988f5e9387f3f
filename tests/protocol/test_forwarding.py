"""A whole node that forwards originals: complete, at once, after faults, after kill -9."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydicom.uid import ComputedRadiographyImageStorage

from dicom_node.harness.archive import Archive
from dicom_node.harness.faults import NarrowArchive
from dicom_node.harness.scanner import send
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState, JobState, StudyState
from dicom_node.scu.part10 import Part10File
from tests import factories
from tests.factories import make_ct_series, make_xray, write, write_series
from tests.node_process import ROOT, NodeProcess, wait_until

SLICES = 70  # more than go in one batch
WENT = {DeliveryState.SENT, DeliveryState.PROVEN, DeliveryState.UNPROVEN}
ALL = {"name": "all", "when": {}, "forward": "archive"}


@dataclass
class Site:
    """A node whose rules forward to one archive."""

    folder: Path
    port: int
    archive_port: int

    def node(self, *rules: Mapping[str, Any], **sections: Any) -> NodeProcess:
        file = self.folder / "rules.yaml"
        file.write_text(yaml.safe_dump({"rules": list(rules)}))
        engines = self.folder / "engines"
        engines.mkdir(exist_ok=True)
        given: dict[str, Any] = {
            "node": {"engines_dir": str(engines), "rules_file": str(file)},
            "peers": {
                "archive": {
                    "ae_title": "ARCHIVE",
                    "host": "127.0.0.1",
                    "port": self.archive_port,
                },
                "scanner": {"ae_title": "SCANNER", "may_send": True},
            },
        }
        for name, section in sections.items():
            given[name] = {**given.get(name, {}), **section}
        return NodeProcess(self.folder / "node", self.port, **given)

    def send(self, files: Sequence[Path], **how: Any) -> None:
        answers = send(files, "127.0.0.1", self.port, called="DICOM_NODE", **how)
        assert [answer.status for answer in answers] == [0] * len(files)


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with Archive(tmp_path / "archive") as archive:
        yield archive


@pytest.fixture
def site(tmp_path: Path, free_port: int, archive: Archive) -> Site:
    return Site(tmp_path, free_port, archive.port)


def digests_of(files: Sequence[Path]) -> dict[str, str]:
    """Return the SHA-256 of each data set, by SOP Instance UID."""
    read = [Part10File.read(file) for file in files]
    return {one.sop_instance_uid: hashlib.sha256(one.data_set()).hexdigest() for one in read}


def assert_has(archive: Archive, files: Sequence[Path], repeated_max: int = 0) -> None:
    """Assert that an archive has these files and no other, byte for byte."""
    assert {r.sop_instance_uid: r.digest for r in archive.received()} == digests_of(files)
    assert archive.conflicts() == ()
    assert sum(r.count - 1 for r in archive.received()) <= repeated_max


def wait_forwarded(ledger: Ledger, study_instance_uid: str = factories.STUDY) -> None:
    def all_sent() -> bool:
        forwards = ledger.forwards.of_study(study_instance_uid)
        return bool(forwards) and all(f.state in WENT for f in forwards)

    wait_until(all_sent, 60, "the end of all forwards")


def progress(ledger: Ledger) -> tuple[int, int, int]:
    [forward] = ledger.forwards.of_study(factories.STUDY)
    return ledger.forwards.progress(forward.forward_id)


def study_state(ledger: Ledger, study_instance_uid: str = factories.STUDY) -> StudyState | None:
    study = ledger.studies.get(study_instance_uid)
    return None if study is None else study.state


def test_a_complete_study_goes_byte_for_byte_without_what_is_dropped(
    site: Site, archive: Archive, tmp_path: Path
) -> None:
    slices = write_series(make_ct_series(SLICES), tmp_path / "ct")
    xray = write(make_xray(), tmp_path / "x.dcm")
    drop = {"name": "no-cr", "when": {"Modality": "CR"}, "drop": "not for the archive"}
    node = site.node(drop, ALL).start()
    try:
        site.send([*slices, xray])
        ledger = node.ledger()
        wait_forwarded(ledger)
        assert_has(archive, slices)
        assert progress(ledger) == (SLICES, 0, SLICES)
        [dropped] = ledger.events.named("DROPPED")
        assert dropped.reason == "1 instances by rule no-cr: not for the archive"
        explained = node.run_cli("explain", factories.STUDY).stdout
        assert f"{SLICES} of {SLICES} sent" in explained
        ledger.close()
    finally:
        assert node.stop() == 0


def test_instances_go_at_once_while_their_study_is_still_arriving(
    site: Site, archive: Archive, tmp_path: Path
) -> None:
    files = write_series(make_ct_series(4), tmp_path / "ct")
    rule = {
        "name": "stream",
        "level": "instance",
        "when": {"Modality": "CT"},
        "forward": {"to": "archive", "at": "once"},
    }
    node = site.node(rule, assemble={"quiet_after_release_s": 60, "quiet_otherwise_s": 60}).start()
    try:
        ledger = node.ledger()
        site.send(files[:2])
        assert archive.wait_for(2)
        assert study_state(ledger) is StudyState.RECEIVING
        site.send(files[2:])
        assert archive.wait_for(4)
        wait_forwarded(ledger)
        assert study_state(ledger) is StudyState.RECEIVING
        assert_has(archive, files)
        ledger.close()
    finally:
        assert node.stop() == 0


def test_an_archive_that_was_dead_gets_everything_when_it_is_back(
    tmp_path: Path, free_port: int
) -> None:
    files = write_series(make_ct_series(SLICES), tmp_path / "ct")
    with Archive(tmp_path / "archive") as archive:
        archive_port = archive.port
    site = Site(tmp_path, free_port, archive_port)
    node = site.node(ALL).start()
    try:
        ledger = node.ledger()
        site.send(files)

        def has_failed() -> bool:
            return any(f.failures > 1 for f in ledger.forwards.of_study(factories.STUDY))

        wait_until(has_failed, 30, "two attempts in vain")
        with Archive(tmp_path / "archive", port=archive_port) as archive:
            wait_forwarded(ledger)
            assert_has(archive, files)
        ledger.close()
    finally:
        assert node.stop() == 0


def test_what_the_archive_refuses_is_dead_and_named_and_the_rest_arrives(
    tmp_path: Path, free_port: int
) -> None:
    slices = write_series(make_ct_series(3), tmp_path / "ct")
    xray = write(make_xray(), tmp_path / "x.dcm")
    refused = [ComputedRadiographyImageStorage]
    with NarrowArchive(tmp_path / "archive", refused_sop_class_uids=refused) as archive:
        site = Site(tmp_path, free_port, archive.port)
        node = site.node({**ALL, "level": "study"}).start()
        try:
            ledger = node.ledger()
            site.send([*slices, xray])
            wait_until(
                lambda: bool(ledger.forwards.in_states(DeliveryState.DEAD)), 30, "the dead forward"
            )
            assert_has(archive, slices)
            assert progress(ledger) == (3, 1, 4)
            [told] = ledger.events.named("NOT_FORWARDED")
            assert "accepts no Computed Radiography Image Storage" in told.reason
            ledger.close()
        finally:
            assert node.stop() == 0


@pytest.mark.parametrize(
    ("boundary", "nth"),
    [
        ("route.recorded", 1),
        ("forward.answered", 1),
        ("forward.sending", 2),
    ],
)
def test_a_node_that_is_killed_while_it_forwards_goes_on_after_its_start(
    boundary: str, nth: int, site: Site, archive: Archive, tmp_path: Path
) -> None:
    files = write_series(make_ct_series(SLICES), tmp_path / "ct")
    node = site.node(ALL).start(kill_at=boundary, nth=nth)
    site.send(files)
    node.wait_killed()
    node.start()
    try:
        ledger = node.ledger()
        wait_forwarded(ledger)
        # of what was taken but not noted, at most one batch goes out twice
        assert_has(archive, files, repeated_max=64 if boundary == "forward.answered" else 0)
        assert progress(ledger) == (SLICES, 0, SLICES)
        ledger.close()
    finally:
        assert node.stop() == 0


def test_a_held_study_goes_after_a_person_says_so(
    site: Site, archive: Archive, tmp_path: Path
) -> None:
    files = write_series(make_ct_series(3), tmp_path / "ct")
    hold = {"name": "look", "when": {"Modality": "CT"}, "hold": "somebody looks first"}
    node = site.node(hold, ALL).start()
    try:
        ledger = node.ledger()
        site.send(files)
        wait_until(lambda: study_state(ledger) is StudyState.PARKED, 30, "the hold")
        assert node.run_cli("retry", "--all").returncode == 0  # that is not for what is held
        assert archive.received() == ()
        assert node.run_cli("retry", factories.STUDY).returncode == 0
        wait_forwarded(ledger)
        assert_has(archive, files)
        ledger.close()
    finally:
        assert node.stop() == 0


def test_rules_follow_on_what_an_engine_found(
    site: Site, archive: Archive, tmp_path: Path, data_dir: Path
) -> None:
    """The quality is judged and told of, nothing else begins, and the original goes."""
    xray = data_dir / "xray" / "dx-nih-00000001_000.dcm"
    graded = ["diagnostic", "limited", "non-diagnostic"]
    rules = (
        {
            "name": "quality",
            "when": {"Modality": ["CR", "DX"]},
            "engines": ["cxr_quality"],
            "destinations": ["archive"],
        },
        {"name": "graded", "when": {"cxr_quality.grade": graded}, "notify": "it was graded"},
        {
            "name": "others",
            "when": {"cxr_quality.grade": {"is": graded, "missing": "holds"}},
            "stop": True,
        },
        {
            "name": "pneumonia",
            "when": {"Modality": ["CR", "DX"]},
            "engines": ["cxr_pneumonia"],
            "destinations": ["archive"],
        },
        {"name": "send", "when": {"cxr_quality.outcome": "done"}, "forward": "archive"},
    )
    node = site.node(*rules, node={"engines_dir": str(ROOT / "engines")}).start()
    try:
        ledger = node.ledger()
        site.send([xray])
        wait_until(lambda: bool(ledger.events.named("NOTICE")), 90, "the notice")
        [notice] = ledger.events.named("NOTICE")
        assert notice.reason.startswith("rule graded: it was graded")
        uid = notice.subject
        wait_forwarded(ledger, uid)
        [job] = ledger.jobs.of_study(uid)  # the stop let nothing else begin
        assert (job.engine_name, job.state) == ("cxr_quality", JobState.DONE)
        [original] = digests_of([xray]).items()
        assert archive.wait_for(
            lambda received: original in {(r.sop_instance_uid, r.digest) for r in received}
        )
        assert len(ledger.routing.decisions(uid)) == 2
        ledger.close()
    finally:
        assert node.stop() == 0
