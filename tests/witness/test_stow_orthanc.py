"""Orthanc with its DICOMweb plugin as an archive that results come to by STOW-RS."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pydicom
import pytest

from dicom_node.config.settings import Config, DeliverSettings, NodeSettings, Peer
from dicom_node.deliver.senders import echo
from dicom_node.deliver.store_scu import Item
from dicom_node.deliver.stow import send
from dicom_node.deliver.web_archive import WebArchive
from dicom_node.encode.results import encode
from dicom_node.errors import PeerUnreachable
from dicom_node.scu import qido
from dicom_node.scu.peers import web_address_of
from dicom_node.store.local import LocalStore
from tests.conftest import find_plugin
from tests.factories import make_ct_series
from tests.node_process import wait_until
from tests.ports import free_port
from tests.unit.deliver.forwarding import own_files
from tests.unit.encode.findings import STAMP, headers_of, segmentation
from tests.unit.ledger.rows import a_result

RequireProgram = Callable[[str], Path]

pytestmark = pytest.mark.witness


@pytest.fixture
def peer(tmp_path: Path, require_program: RequireProgram) -> Iterator[Peer]:
    """Return an Orthanc that wants a password, as a peer that has a stow_url and nothing else."""
    program = require_program("Orthanc")
    plugin = find_plugin("libOrthancDicomWeb.so")
    port = free_port()
    settings = {
        "Name": "witness",
        "StorageDirectory": str(tmp_path / "orthanc"),
        "IndexDirectory": str(tmp_path / "orthanc"),
        "DicomServerEnabled": False,
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {"node": "secret"},
        "Plugins": [str(plugin)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    config = tmp_path / "orthanc.json"
    config.write_text(json.dumps(settings))
    password = tmp_path / "password"
    password.write_text("node:secret\n")
    peer = Peer(
        ae_title="ORTHANC",
        stow_url=f"http://127.0.0.1:{port}/dicom-web",
        stow_password_file=password,
    )
    with (tmp_path / "orthanc.log").open("w") as log:
        process = subprocess.Popen([program, config], stdout=log, stderr=log)

    def answers() -> bool:
        try:
            echo(peer, CONFIG)
        except PeerUnreachable:
            return False
        return True

    try:
        wait_until(answers, 30, "Orthanc's DICOMweb")
        yield peer
    finally:
        process.terminate()
        process.wait(30)


CONFIG = Config(node=NodeSettings(), deliver=DeliverSettings(timeout_s=20))


def results(folder: Path) -> list[Item]:
    sources = headers_of(make_ct_series(5))
    items = []
    for one in encode(segmentation(sources), sources, STAMP):
        path = folder / f"{one.kind}.dcm"
        path.write_bytes(one.content)
        items.append(Item(path, one.sop_class_uid, one.transfer_syntax_uid))
    return items


def test_results_come_to_orthanc_and_are_found_and_fetched_there(
    peer: Peer, tmp_path: Path
) -> None:
    items = results(tmp_path)
    address = web_address_of(peer, CONFIG)
    sent = [pydicom.dcmread(item.path) for item in items]
    for one in sent:
        assert qido.instances_in(address, one.StudyInstanceUID, one.SeriesInstanceUID) == {}
        uids = (one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)
        assert qido.retrieve(address, *uids) is None

    assert list(send(items, web_address_of(peer, CONFIG))) == ["stored"] * 2
    assert list(send(items, web_address_of(peer, CONFIG))) == ["stored"] * 2, (
        "again, as after a crash"
    )
    for item, one in zip(items, sent, strict=True):
        found = qido.instances_in(address, one.StudyInstanceUID, one.SeriesInstanceUID)
        assert found == {str(one.SOPInstanceUID): str(one.SOPClassUID)}
        uids = (one.StudyInstanceUID, one.SeriesInstanceUID, one.SOPInstanceUID)
        assert qido.retrieve(address, *uids) == item.path.read_bytes()


def test_what_orthanc_has_is_proven_by_what_it_gives_back(peer: Peer, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    made = []
    for number, item in enumerate(results(tmp_path), 1):
        one = pydicom.dcmread(item.path)
        store.save(f"results/{number}.dcm", [item.path.read_bytes()])
        made.append(
            a_result(
                number,
                sop_instance_uid=str(one.SOPInstanceUID),
                sop_class_uid=str(one.SOPClassUID),
                study_instance_uid=str(one.StudyInstanceUID),
                series_instance_uid=str(one.SeriesInstanceUID),
            )
        )
    archive = WebArchive(web_address_of(peer, CONFIG), store)
    assert archive.find(made) == frozenset()
    assert archive.fetch(made[0]) is None
    assert list(archive.store(made)) == ["stored"] * 2
    assert archive.find(made) == {one.sop_instance_uid for one in made}
    for result in made:
        returned = archive.fetch(result)
        assert returned is not None
        assert own_files(store).is_same(result, returned)


def test_a_wrong_password_is_waited_for(peer: Peer, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("node:wrong")
    locked_out = peer.model_copy(update={"stow_password_file": wrong})
    with pytest.raises(PeerUnreachable, match="HTTP 401"):
        list(send(results(tmp_path), web_address_of(locked_out, CONFIG)))


def test_what_orthanc_cannot_read_is_refused_and_the_rest_is_kept(
    peer: Peer, tmp_path: Path
) -> None:
    items = results(tmp_path)
    broken = items[0].path.read_bytes()
    items[0].path.write_bytes(broken[:400])  # its File Meta, and a bit of the data set
    said = list(send(items, web_address_of(peer, CONFIG)))
    assert said[0] != "stored"
    assert said[1] == "stored"
