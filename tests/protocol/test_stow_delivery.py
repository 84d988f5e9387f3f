"""The deliver stage over STOW-RS: results and originals, noted in the ledger as over C-STORE."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dicom_node.config.settings import Config, DeliverSettings, Peer
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.ledger.ledger import Ledger
from dicom_node.lifecycle import DeliveryState
from dicom_node.store.local import LocalStore
from tests.factories import CT_SERIES, make_ct_series, write
from tests.protocol.web_server import Reply, Request, WebServer, keeps_everything, told
from tests.unit.deliver.forwarding import Forwarding
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
    Deliverer(config, ledger, store, HandClock(1000.0)).turn("archive")
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
