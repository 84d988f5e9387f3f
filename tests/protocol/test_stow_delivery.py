"""The deliver stage over STOW-RS: results and originals, noted in the ledger as over C-STORE."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, DeliverSettings, Peer
from dicom_node.deliver.web_archive import WebArchive
from dicom_node.errors import PeerRefused
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.model import Result
from dicom_node.scu.web import WebAddress
from dicom_node.store.local import LocalStore
from tests.factories import CT_SERIES, STUDY, make_ct_series, write
from tests.protocol.web_server import (
    Reply,
    Request,
    Script,
    WebServer,
    keeps_everything,
    told,
)
from tests.unit.deliver.delivering import deliverer_of
from tests.unit.deliver.forwarding import Forwarding, own_files
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock, a_result, finished

CT = "1.2.840.10008.5.1.4.1.1.2"


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = rows.new_ledger(tmp_path)
    with capture_logs():
        yield ledger
    ledger.close()


def sent(ledger: Ledger, folder: Path, url: str) -> list[tuple[DeliveryState, str]]:
    """Have three results sent; return what the ledger then says of each."""
    store = LocalStore(folder / "data")
    results = []
    for number, dataset in enumerate(make_ct_series(3), 1):
        content = write(dataset, store.path(f"results/{number}.dcm")).read_bytes()
        results.append(
            a_result(
                number,
                sop_instance_uid=str(dataset.SOPInstanceUID),
                sop_class_uid=CT,
                digest=hashlib.sha256(content).hexdigest(),
            )
        )
    finished(ledger, *results, now=900.0)
    config = Config(
        deliver=DeliverSettings(timeout_s=5, retry_first_s=10),
        peers={"archive": Peer(ae_title="ARCHIVE", stow_url=url)},
    )
    deliverer_of(config, ledger, store, HandClock(1000.0)).turn("archive")
    parcels = ledger.deliveries.of_job("job-1")
    return [(parcel.delivery.state, parcel.delivery.reason) for parcel in parcels]


def test_results_that_it_stored_are_sent(ledger: Ledger, tmp_path: Path) -> None:
    with WebServer(keeps_everything) as server:
        assert sent(ledger, tmp_path, server.url) == [(DeliveryState.SENT, "stored")] * 3
        assert len(server.requests) == 1


def test_each_result_has_its_own_fate(ledger: Ledger, tmp_path: Path) -> None:
    one, two, three = (f"{CT_SERIES}.{number}" for number in (1, 2, 3))
    answer = told([one], failed={two: 0xA700, three: 0x0122})
    with WebServer(lambda _: Reply(202, answer)) as server:
        states = [state for state, _ in sent(ledger, tmp_path, server.url)]
    assert states == [DeliveryState.SENT, DeliveryState.PENDING, DeliveryState.DEAD]


def test_a_server_that_lets_nobody_in_is_tried_again(ledger: Ledger, tmp_path: Path) -> None:
    with WebServer(lambda _: Reply(401)) as server:
        said = sent(ledger, tmp_path, server.url)
    assert {state for state, _ in said} == {DeliveryState.PENDING}
    assert all("check the credentials" in reason for _, reason in said)


def test_originals_are_forwarded_byte_for_byte(tmp_path: Path) -> None:
    received: dict[str, str] = {}

    def keeps(request: Request) -> Reply:
        for uid, part in zip(request.sop_instance_uids, request.parts, strict=True):
            begins = 144 + int.from_bytes(part[140:144], "little")
            received[uid] = hashlib.sha256(part[begins:]).hexdigest()
        return keeps_everything(request)

    with WebServer(keeps) as server, capture_logs():
        forwarding = Forwarding(tmp_path, stow_url=server.url)
        forwarding.add_some(70)
        forwarding.choose()
        forwarding.run()
        assert (forwarding.state(), forwarding.progress) == (DeliveryState.SENT, (70, 0, 70))
        assert received == forwarding.digests()
        forwarding.ledger.close()


# ---------------------------------------------------------------- proof


@pytest.fixture
def result(tmp_path: Path) -> Result:
    """Return a result that lies in the store."""
    [dataset] = make_ct_series(1)
    write(dataset, LocalStore(tmp_path / "data").path("results/1.dcm"))
    return a_result(
        1,
        sop_instance_uid=f"{CT_SERIES}.1",
        sop_class_uid=CT,
        study_instance_uid=STUDY,
        series_instance_uid=CT_SERIES,
    )


def archive_at(server: WebServer, folder: Path) -> WebArchive:
    return WebArchive(WebAddress(server.url, "ARCHIVE", 5.0), LocalStore(folder / "data"))


def has(sop_class_uid: str | None) -> Script:
    """Return a server that has the result, of a class that it may not tell."""

    def answers(request: Request) -> Reply:
        if "offset=0" not in request.path:
            return Reply(204)
        match = {"00080018": {"vr": "UI", "Value": [f"{CT_SERIES}.1"]}}
        if sop_class_uid is not None:
            match["00080016"] = {"vr": "UI", "Value": [sop_class_uid]}
        return Reply(200, [match])

    return answers


@pytest.mark.parametrize(
    ("sop_class_uid", "is_there"), [(CT, True), (None, True), ("1.2.840.10008.1.1", False)]
)
def test_what_a_search_names_is_there(
    sop_class_uid: str | None, is_there: bool, result: Result, tmp_path: Path
) -> None:
    with WebServer(has(sop_class_uid)) as server:
        found = archive_at(server, tmp_path).find([result, result])
        assert len(server.requests) == 2, "once a series"
    assert found == ({result.sop_instance_uid} if is_there else frozenset())


@pytest.mark.parametrize("changes", [{}, {"PatientName": "Corrected^Name"}, {"Rows": 65}])
def test_what_comes_back_is_compared_by_what_must_not_change(
    changes: dict[str, Any], result: Result, tmp_path: Path
) -> None:
    [dataset] = make_ct_series(1, **changes)
    content = write(dataset, tmp_path / "back.dcm").read_bytes()
    body = b"--b\r\n\r\n" + content + b"\r\n--b--\r\n"
    reply = Reply(200, body, "multipart/related; boundary=b")
    with WebServer(lambda _: reply) as server:
        archive = archive_at(server, tmp_path)
        returned = archive.fetch(result)
    assert returned is not None
    assert own_files(LocalStore(tmp_path / "data")).is_same(result, returned) is (
        "Rows" not in changes
    )


def test_what_comes_back_broken_is_not_the_same(result: Result, tmp_path: Path) -> None:
    body = b"--b\r\n\r\n" + bytes(128) + b"DICM" + b"nonsense" * 9 + b"\r\n--b--\r\n"
    reply = Reply(200, body, "multipart/related; boundary=b")
    with WebServer(lambda _: reply) as server:
        returned = archive_at(server, tmp_path).fetch(result)
    assert returned is not None
    assert own_files(LocalStore(tmp_path / "data")).is_same(result, returned) is False


def test_commitment_is_not_to_be_had(result: Result, tmp_path: Path) -> None:
    with WebServer(keeps_everything) as server, pytest.raises(PeerRefused) as caught:
        archive_at(server, tmp_path).commit("1.2.3", [result], lambda _: None)
    assert caught.value.status == 0x0122
