"""`dicom-node explain`: for each rule why it matches or not."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from dicom_node.store.local import LocalStore
from dicom_node.verdict import Action, Certainty, SeriesVerdict, Verdict
from tests import factories
from tests.factories import make_ct_series, make_xray, write, write_series
from tests.unit.cli.sites import Site
from tests.unit.ledger import rows


def test_a_chest_x_ray_matches_its_rule(site: Site, data_dir: Path) -> None:
    result = site.call("explain", data_dir / "xray" / "dx-nih-00000001_000.dcm")
    assert result.exit_code == 0
    assert "rule chest-x-ray matches: Modality is DX; BodyPartExamined is CHEST" in result.output
    assert "rule lungs-on-ct does not match: Modality is DX, not CT" in result.output
    assert "engine cxr_pneumonia accepts it" in result.output
    assert "engine cxr_quality accepts it" in result.output


@pytest.mark.parametrize(
    ("name", "reasons"),
    [
        (
            "cr-extremity-fuji-j2k-RG3.dcm",
            [
                "rule chest-x-ray does not match: BodyPartExamined is EXTREMITY, not CHEST",
                "rule lungs-on-ct does not match: Modality is CR, not CT",
                "rule brain-on-t1-mr does not match: Modality is CR, not MR",
            ],
        ),
        (
            "dx-thorax-canine-fuji.dcm",
            [
                "rule chest-x-ray does not match: ",
                "ViewPosition is ",
                "not PA or AP",
            ],
        ),
    ],
)
def test_an_arm_and_a_dog_match_nothing_and_are_told_why(
    name: str, reasons: list[str], site: Site, data_dir: Path
) -> None:
    result = site.call("explain", data_dir / "xray" / name)
    assert result.exit_code == 0
    for reason in reasons:
        assert reason in result.output
    assert " matches: " not in result.output
    assert "accepts it" not in result.output


def test_an_engine_that_would_refuse_says_so(site: Site, tmp_path: Path) -> None:
    file = write(make_xray(PresentationIntentType="FOR PROCESSING"), tmp_path / "x.dcm")
    output = site.call("explain", file).output
    assert "rule chest-x-ray matches" in output
    assert (
        "engine cxr_pneumonia would refuse it: PresentationIntentType is FOR PROCESSING, "
        "not absent or FOR PRESENTATION"
    ) in output


def test_a_folder_is_explained_series_by_series_and_counts_its_instances(
    site: Site, tmp_path: Path
) -> None:
    write_series(make_ct_series(9), tmp_path / "study" / "ct")
    write(make_xray(), tmp_path / "study" / "x.dcm")
    (tmp_path / "study" / "notes.txt").write_text("not DICOM", "utf-8")
    output = site.call("explain", tmp_path / "study").output
    assert f"series {factories.CT_SERIES} (CT Synthetic series, 9 instances)" in output
    assert f"series {factories.XRAY_SERIES} (CR Synthetic series, 1 instances)" in output
    assert "instance_count is 9, not >= 10" in output
    assert "notes.txt: " in output


def test_nothing_of_the_patient_is_printed(site: Site, tmp_path: Path) -> None:
    output = site.call("explain", write(make_xray(), tmp_path / "x.dcm")).output
    assert "Synthetic^Patient" not in output
    assert "SYN-1" not in output


@pytest.fixture
def received(site: Site) -> Site:
    """A ledger with one X-ray that was received, completed and routed to one job."""
    store = LocalStore(site.folder / "data")
    file = write(make_xray(), store.path("instances/x.dcm"))
    instance = rows.an_instance(
        sop_instance_uid=f"{factories.XRAY_SERIES}.1",
        study_instance_uid=factories.STUDY,
        series_instance_uid=factories.XRAY_SERIES,
        path="instances/x.dcm",
        digest=hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    job = rows.a_job(
        study_instance_uid=factories.STUDY,
        series_instance_uid=factories.XRAY_SERIES,
        engine_name="cxr_pneumonia",
    )
    with site.ledger() as ledger:
        evidence = rows.receive(ledger, instance)
        series = SeriesVerdict(
            factories.XRAY_SERIES, Certainty.PROBABLE, ("1 instances",), ("a doubt",)
        )
        verdict = Verdict(
            Certainty.PROBABLE, ("1 instances", "silence"), (), (series,), Action.ROUTE, 0.0
        )
        assert ledger.studies.completed(evidence, verdict.reason, 250.0, verdict)
        study = rows.study_of(ledger, factories.STUDY)
        rows.route(ledger, study, [job], "chest-x-ray -> cxr_pneumonia", 300.0)
        ledger.jobs.fail(rows.started(ledger), "the model raised", 330.0, 320.0)
        result = rows.a_result(study_instance_uid=factories.STUDY, kind="SR")
        ledger.jobs.finish(rows.started(ledger), [result], "pneumonia 0.08", {}, 400.0)
        [parcel] = rows.sending(ledger)
        ledger.deliveries.postpone(parcel.delivery, "ARCHIVE cannot be reached", 500.0, 420.0)
    return site


@pytest.mark.parametrize("subject", [factories.STUDY, f"{factories.XRAY_SERIES}.1"])
def test_a_study_tells_its_whole_story_by_its_own_uid_or_an_instances(
    subject: str, received: Site
) -> None:
    result = received.call("explain", subject)
    assert result.exit_code == 0
    in_order = [
        f"study {factories.STUDY}",
        "ROUTED, revision 1: chest-x-ray -> cxr_pneumonia",
        "revision 1, study: PROBABLE",
        "for it: 1 instances; silence",
        f"revision 1, series {factories.XRAY_SERIES}: PROBABLE",
        "against it: a doubt",
        f"series {factories.XRAY_SERIES} (CR Synthetic series, 1 instances)",
        "rule chest-x-ray matches",
        "engine cxr_pneumonia accepts it",
        "job job-1: cxr_pneumonia 1.0.0, DONE: pneumonia 0.08",
        "CREATED",
        "STARTED QUEUED -> RUNNING: attempt 1",
        "FAILED RUNNING -> QUEUED: the model raised",
        "STARTED QUEUED -> RUNNING: attempt 2",
        "FINISHED RUNNING -> DONE: 1 results",
        "delivery 1: SR to archive, PENDING: ARCHIVE cannot be reached",
        "what happened to the study:",
        "1970-01-01 00:01:41 INSTANCE_STORED",
        "COMPLETED RECEIVING -> COMPLETE",
        "ROUTED COMPLETE -> ROUTED",
    ]
    rest = result.output
    for line in in_order:
        assert line in rest
        _, _, rest = rest.partition(line)


@pytest.mark.parametrize(
    ("subject", "message"),
    [
        ("1.2.3.999", "1.2.3.999 is not in the ledger"),
        ("no-such-file.dcm", "no-such-file.dcm is no file, no folder and no UID"),
    ],
)
def test_what_is_not_known_is_said_plainly(subject: str, message: str, received: Site) -> None:
    result = received.call("explain", subject)
    assert result.exit_code == 1
    assert message in result.output
    assert "-> " in result.output


def test_a_study_without_a_ledger_says_what_to_do(site: Site) -> None:
    result = site.call("explain", "1.2.3")
    assert result.exit_code == 2
    assert "run `dicom-node serve` once" in result.output
