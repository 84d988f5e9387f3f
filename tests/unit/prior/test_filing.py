"""Instances of a C-GET are filed, or refused, as the receiver does it with those of a C-STORE."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
import xxhash
from pydicom.dataset import Dataset

from dicom_node.config.settings import Config, ReceiveSettings
from dicom_node.errors import InstanceRefused, StoreFull
from dicom_node.ledger.ledger import Ledger
from dicom_node.prior.filing import Filing
from dicom_node.scu.address import Address
from dicom_node.scu.part10 import Part10File
from dicom_node.scu.retrieve import ReceivedInstance
from dicom_node.store.local import LocalStore
from tests.factories import STUDY, make_instance, write
from tests.unit.ledger import rows
from tests.unit.ledger.rows import HandClock

ADDRESS = Address("10.1.2.3", 104, "ARCHIVE", "DICOM_NODE")
CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT = "1.2.840.10008.1.2.1"


class Site:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ledger: Ledger = rows.new_ledger(folder)
        self.store = LocalStore(folder / "data")

    def filing(self, **receive: Any) -> Filing:
        config = Config(receive=ReceiveSettings(**{"free_bytes_min": 0, **receive}))
        clock = HandClock(500.0)
        return Filing(config, self.ledger, self.store, clock, ADDRESS, STUDY)

    def received(self, dataset: Dataset) -> ReceivedInstance:
        file = Part10File.read(write(dataset, self.folder / "sent.dcm"))
        return ReceivedInstance(CT, file.sop_instance_uid, EXPLICIT, file.data_set())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    yield site
    site.ledger.close()


def test_an_instance_is_filed_as_it_came_and_under_its_sender(site: Site) -> None:
    sent = site.received(make_instance())
    with site.filing() as filing:
        assert filing.take(sent) == 0x0000
    [instance] = site.ledger.studies.instances(STUDY)
    assert (instance.calling_ae_title, instance.received_at) == ("ARCHIVE", 500.0)
    assert instance.digest == xxhash.xxh3_128_hexdigest(sent.data_set)
    content = site.store.file(instance.path).read_bytes()
    assert content.endswith(sent.data_set)
    assert len(content) == instance.size_bytes
    meta = pydicom.dcmread(BytesIO(content)).file_meta
    assert meta.MediaStorageSOPInstanceUID == sent.sop_instance_uid
    assert meta.TransferSyntaxUID == EXPLICIT
    assert meta.SourceApplicationEntityTitle == "ARCHIVE"
    assert site.ledger.associations.called(STUDY) == {instance.association_id: "DICOM_NODE"}


@pytest.mark.parametrize(("breaks", "last_end"), [(False, "released"), (True, "aborted")])
def test_the_association_ends_with_the_c_get(site: Site, breaks: bool, last_end: str) -> None:
    def fetch() -> None:
        with site.filing() as filing:
            filing.take(site.received(make_instance()))
            if breaks:
                raise ConnectionError

    if breaks:
        with pytest.raises(ConnectionError):
            fetch()
    else:
        fetch()
    [evidence] = site.ledger.studies.receiving()
    assert (evidence.open_associations, rows.last_end(evidence)[0]) == (0, last_end)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"StudyInstanceUID": "1.2.3"}, 0xA900),
        ({"SOPInstanceUID": "1.2.3"}, 0xA900),
        ({"SOPClassUID": "1.2.3"}, 0xA900),
        ({"SeriesInstanceUID": ""}, 0xC000),
        ({"SOPInstanceUID": ""}, 0xC000),
    ],
)
def test_what_was_not_announced_is_refused(site: Site, change: dict[str, str], status: int) -> None:
    announced = site.received(make_instance())
    other = make_instance()
    for keyword, value in change.items():
        setattr(other, keyword, value)
    file = site.folder / "other.dcm"
    other.save_as(file)
    sent = replace(announced, data_set=Part10File.read(file).data_set())
    with pytest.raises(InstanceRefused) as refused, site.filing() as filing:
        filing.take(sent)
    assert refused.value.status == status
    assert site.ledger.studies.instances(STUDY) == []


def test_what_is_no_data_set_is_refused(site: Site) -> None:
    broken = ReceivedInstance(CT, "1.2.3", EXPLICIT, os.urandom(7))
    with pytest.raises(InstanceRefused) as refused, site.filing() as filing:
        filing.take(broken)
    assert refused.value.status == 0xC000


@pytest.mark.parametrize("limit", [{"instance_bytes_max": 100}, {"free_bytes_min": 1 << 60}])
def test_the_limits_of_the_door_hold_here_too(site: Site, limit: dict[str, int]) -> None:
    with pytest.raises(StoreFull), site.filing(**limit) as filing:
        filing.take(site.received(make_instance()))
    assert site.ledger.studies.instances(STUDY) == []


@pytest.mark.parametrize(("policy", "kept"), [("replace", "2"), ("keep", "1"), ("refuse", "1")])
def test_other_bytes_under_a_known_uid_follow_the_configuration(
    site: Site, policy: str, kept: str
) -> None:
    with site.filing(same_uid_other_bytes=policy) as filing:
        for study_id in ("1", "2"):
            filing.take(site.received(make_instance(StudyID=study_id)))
    [instance] = site.ledger.studies.instances(STUDY)
    content = site.store.file(instance.path).read_bytes()
    assert pydicom.dcmread(BytesIO(content)).StudyID == kept
