"""The keeper of headers: what is read, what is kept and in which form, and when it stops."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from dicom_node.history.keeper import HeaderKeeper, Stopped
from dicom_node.history.keywords import DEFAULT_KEYWORDS, KeepPolicy, not_kept
from dicom_node.ledger.headers import KeptHeader
from dicom_node.model import Attributes, Instance
from dicom_node.store.local import LocalStore
from tests.factories import make_instance, write
from tests.unit.ledger import rows
from tests.unit.ledger.rows import STUDY, an_instance

SECRET = b"of the tests"


@dataclass
class Kept:
    """A ledger and a store with a study in it."""

    folder: Path
    instances: list[Instance] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger = rows.new_ledger(self.folder)
        self.store = LocalStore(self.folder / "data")
        self.stop_after: int | None = None
        self.asked = 0

    def keeper(self, **policy: frozenset[str]) -> HeaderKeeper:
        return HeaderKeeper(
            self.ledger, self.store, KeepPolicy(key=SECRET, **policy), self._stopping
        )

    def add(self, dataset: Dataset) -> Instance:
        """Lay an instance into the store and note it."""
        path = f"instances/{dataset.SOPInstanceUID}.dcm"
        content = write(dataset, self.store.path(path)).read_bytes()
        instance = an_instance(
            sop_instance_uid=str(dataset.SOPInstanceUID),
            path=path,
            digest=hashlib.sha256(content).hexdigest(),
        )
        self.ledger.studies.instance_stored(instance)
        self.instances.append(instance)
        return instance

    def lose_files(self) -> None:
        """From now on what is read from a file is an error."""
        for instance in self.instances:
            self.store.path(instance.path).unlink()

    def headers(self, keeper: HeaderKeeper) -> dict[str, KeptHeader]:
        of_study = keeper.of_study(STUDY, self.instances)
        return {uid: header for (_, uid), header in of_study.items()}

    def attributes(self, keeper: HeaderKeeper, *keywords: str) -> Attributes:
        """Return these attributes of the first instance."""
        of_study = keeper.of_study(STUDY, self.instances)
        read = keeper.with_keywords(of_study, self.instances, keywords)
        first = self.instances[0]
        return read[first.series_instance_uid, first.sop_instance_uid]

    def _stopping(self) -> bool:
        self.asked += 1
        return self.stop_after is not None and self.asked > self.stop_after


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    kept = Kept(tmp_path)
    yield kept
    kept.ledger.close()


def test_each_header_is_read_once_and_then_comes_from_the_ledger(kept: Kept) -> None:
    for number in (1, 2):
        kept.add(make_instance(number=number))
    first = kept.headers(kept.keeper())
    assert {h.attributes["InstanceNumber"] for h in first.values()} == {("1",), ("2",)}
    assert {h.attributes["Modality"] for h in first.values()} == {("CT",)}
    kept.lose_files()
    assert kept.headers(kept.keeper()) == first


def test_what_comes_later_is_read_alone(kept: Kept) -> None:
    kept.add(make_instance(number=1))
    keeper = kept.keeper()
    keeper.of_study(STUDY)
    kept.lose_files()
    second = kept.add(make_instance(number=2))
    assert kept.headers(keeper)[second.sop_instance_uid].attributes["InstanceNumber"] == ("2",)


def test_other_bytes_are_read_again(kept: Kept) -> None:
    before = kept.add(make_instance(SeriesDescription="before"))
    keeper = kept.keeper()
    kept.headers(keeper)
    kept.instances.clear()
    after = kept.add(make_instance(SeriesDescription="after"))
    assert after.digest != before.digest
    assert kept.attributes(keeper, "SeriesDescription") == {"SeriesDescription": ("after",)}
    assert kept.attributes(kept.keeper(), "SeriesDescription") == {"SeriesDescription": ("after",)}


def test_when_more_is_asked_for_the_headers_are_read_again_once(kept: Kept) -> None:
    kept.add(make_instance(Exposure="7"))
    narrow, wide = kept.keeper(), kept.keeper(more=frozenset({"Exposure", "instance_count"}))
    assert "Exposure" not in next(iter(kept.headers(narrow).values())).attributes
    [header] = kept.headers(wide).values()
    assert header.attributes["Exposure"] == ("7",)
    assert header.keywords == DEFAULT_KEYWORDS | {"Exposure"}
    kept.lose_files()
    assert kept.attributes(kept.keeper(more=frozenset({"Exposure"})), "Exposure") == {
        "Exposure": ("7",)
    }
    assert kept.attributes(kept.keeper(), "KVP") == {"KVP": ("120.0",)}  # less is asked for


def test_what_is_not_kept_is_read_from_the_file_when_it_is_asked_for(kept: Kept) -> None:
    kept.add(make_instance(Exposure="7"))
    keeper = kept.keeper()
    assert kept.attributes(keeper, "Exposure", "KVP", "Rows") == {
        "Exposure": ("7",),
        "KVP": ("120.0",),
        "Rows": ("64",),
    }


def test_who_the_patient_is_is_kept_as_a_hash_and_read_from_the_file(kept: Kept) -> None:
    kept.add(make_instance(PatientName="Doe^Jane", PatientID="4711", AccessionNumber="A-1"))
    keeper = kept.keeper()
    [header] = kept.headers(keeper).values()
    assert not {"PatientName", "PatientID", "PatientBirthDate", "AccessionNumber"} & set(
        header.attributes
    )
    assert header.attributes["PatientID#"] == (keeper.policy.hashed("4711"),)
    assert header.attributes["PatientSex"] == ("O",)
    assert kept.attributes(keeper, "PatientName") == {"PatientName": ("Doe^Jane",)}
    assert kept.attributes(keeper, "Modality") == {"Modality": ("CT",)}
    for file in kept.folder.glob("ledger.sqlite*"):
        assert b"Doe" not in file.read_bytes()


def test_what_is_to_be_kept_clear_is_kept_as_it_is(kept: Kept) -> None:
    kept.add(make_instance(PatientID="4711"))
    keeper = kept.keeper(clear=frozenset({"PatientID"}))
    [header] = kept.headers(keeper).values()
    assert header.attributes["PatientID"] == ("4711",)
    assert "PatientID#" not in header.attributes
    kept.lose_files()
    assert kept.attributes(keeper, "PatientID") == {"PatientID": ("4711",)}


def test_a_header_that_cannot_be_parsed_is_kept_as_such(kept: Kept) -> None:
    broken = kept.add(make_instance(number=1))
    kept.add(make_instance(number=2))
    kept.store.path(broken.path).write_bytes(b"\xff" * 300)
    keeper = kept.keeper()
    header = kept.headers(keeper)[broken.sop_instance_uid]
    assert header.unreadable
    assert header.attributes == {}
    assert kept.attributes(keeper, "PatientName") == {}  # nor is it tried again
    assert kept.headers(kept.keeper())[broken.sop_instance_uid] == header


def test_a_file_that_is_gone_is_no_broken_header(kept: Kept) -> None:
    kept.add(make_instance())
    kept.lose_files()
    with pytest.raises(FileNotFoundError):
        kept.headers(kept.keeper())
    assert kept.ledger.headers.count() == 0


def test_a_node_that_stops_waits_for_one_batch_and_goes_on_after_its_start(kept: Kept) -> None:
    [template] = [make_instance()]
    content = write(template, kept.store.path("instances/all.dcm")).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    for number in range(1, 452):
        one = an_instance(number, path="instances/all.dcm", digest=digest)
        kept.instances.append(one)
    kept.ledger.studies.instance_stored(kept.instances[0])
    kept.stop_after = 2
    with pytest.raises(Stopped):
        kept.headers(kept.keeper())
    assert kept.ledger.headers.count() == 400
    kept.stop_after, kept.asked = None, 0
    assert len(kept.headers(kept.keeper())) == 451
    assert kept.asked == 1  # what was read before is not read again


def test_it_also_stops_while_it_reads_what_is_not_kept(kept: Kept) -> None:
    kept.add(make_instance())
    keeper = kept.keeper()
    headers = keeper.of_study(STUDY)
    kept.stop_after = kept.asked
    with pytest.raises(Stopped):
        keeper.with_keywords(headers, kept.instances, ["PatientName"])


def test_what_is_forgotten_is_read_again(kept: Kept) -> None:
    kept.add(make_instance())
    keeper = kept.keeper()
    before = kept.headers(keeper)
    assert keeper.forget(1e9) == 1
    assert kept.headers(keeper) == before
    assert keeper.forget(0.0) == 0


def test_only_a_few_studies_stay_in_memory(kept: Kept) -> None:
    keeper = kept.keeper()
    for number in range(1, 12):
        uid = f"1.2.3.{number}0"
        dataset = make_instance(StudyInstanceUID=uid, SOPInstanceUID=f"{uid}.1")
        path = f"instances/{uid}.dcm"
        write(dataset, kept.store.path(path))
        one = an_instance(study_instance_uid=uid, path=path, digest=uid)
        kept.ledger.studies.instance_stored(one)
        assert len(keeper.of_study(uid)) == 1
    assert len(keeper._remembered) == 8


# ---------------------------------------------------------------- the policy


def test_a_hash_knows_neither_case_nor_blanks_and_needs_the_key() -> None:
    policy = KeepPolicy(key=b"one")
    assert policy.hashed(" DOE^Jane ") == policy.hashed("doe^jane")
    assert policy.hashed("doe^jane") != policy.hashed("doe^john")
    assert policy.hashed("doe^jane") != KeepPolicy(key=b"other").hashed("doe^jane")
    assert len(policy.hashed("4711")) == 32
    assert policy.kept({"PatientID": ("", "4711"), "KVP": ("",)}) == {
        "PatientID#": (policy.hashed("4711"),),
        "KVP": ("",),
    }


def test_what_has_to_be_read_from_the_files_is_known() -> None:
    policy = KeepPolicy(frozenset({"Exposure"}), frozenset({"PatientID"}))
    asked = {"Modality", "Exposure", "PatientID", "PatientName", "Grid", "instance_count"}
    assert not_kept(asked | {"PixelData", "a.grade"}, policy) == {"PatientName", "Grid"}
