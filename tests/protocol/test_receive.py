"""The door: what it negotiates, whom it admits, and what it says when the disk is full."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, AllStoragePresentationContexts, build_context

from dicom_node.harness.scanner import echo, send
from dicom_node.store.reading import StoredFile
from tests.door import Door
from tests.factories import STUDY, make_instance, write
from tests.node_process import ROOT, node_without_engines, wait_until

CONTEXTS_MAX = 128  # PS3.8 9.3.2.2: odd IDs from 1 to 255
TRANSFER_SYNTAXES = [u for u, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]
STORAGE = [str(context.abstract_syntax) for context in AllStoragePresentationContexts]
PRIVATE_SOP_CLASS = "1.2.826.0.1.3680043.9.9999.1"


@pytest.fixture
def door(tmp_path: Path) -> Iterator[Door]:
    with Door(tmp_path, extra_sop_classes=[PRIVATE_SOP_CLASS]) as door:
        yield door


def batches(items: list[str]) -> Iterator[list[str]]:
    rest = iter(items)
    while batch := list(islice(rest, CONTEXTS_MAX)):
        yield batch


def accepted(port: int, contexts: list[tuple[str, list[str]]]) -> list[tuple[str, str]]:
    """Return (SOP Class, Transfer Syntax) of the contexts that are accepted."""
    association = AE("SCANNER").associate(
        "127.0.0.1",
        port,
        contexts=[build_context(sop_class, syntaxes) for sop_class, syntaxes in contexts],
        ae_title="DICOM_NODE",
    )
    assert association.is_established
    found = [
        (str(context.abstract_syntax), str(context.transfer_syntax[0]))
        for context in association.accepted_contexts
    ]
    association.release()
    return found


def test_every_storage_sop_class_is_accepted(door: Door) -> None:
    assert len(STORAGE) > 150
    for batch in batches(STORAGE):
        found = accepted(door.port, [(sop_class, TRANSFER_SYNTAXES[:1]) for sop_class in batch])
        assert [sop_class for sop_class, _ in found] == batch


def test_every_transfer_syntax_is_accepted(door: Door) -> None:
    assert len(TRANSFER_SYNTAXES) > 60
    for batch in batches(TRANSFER_SYNTAXES):
        wanted = [(STORAGE[0], syntax) for syntax in batch]
        found = accepted(door.port, [(sop_class, [syntax]) for sop_class, syntax in wanted])
        assert found == wanted


def test_of_several_transfer_syntaxes_the_requestors_first_is_taken(door: Door) -> None:
    preferred = TRANSFER_SYNTAXES[::-1]
    assert accepted(door.port, [(STORAGE[0], preferred)]) == [(STORAGE[0], preferred[0])]


def test_a_private_sop_class_is_accepted_only_where_it_is_configured(door: Door) -> None:
    implicit = TRANSFER_SYNTAXES[0]
    wanted = [(PRIVATE_SOP_CLASS, [implicit]), (PRIVATE_SOP_CLASS + ".2", [implicit])]
    assert accepted(door.port, wanted) == [(PRIVATE_SOP_CLASS, implicit)]


def test_below_the_floor_of_free_space_the_sender_keeps_its_copy(
    tmp_path: Path, data_dir: Path
) -> None:
    xray = data_dir / "xray" / "dx-nih-00000001_000.dcm"
    with Door(tmp_path, free_bytes_min=10**18) as door:
        [answer] = send([xray], "127.0.0.1", door.port, called="DICOM_NODE")
        assert answer.status == 0xA700
        wait_until(lambda: door.catch_up().events.named("REFUSED") != [], 5.0, "the event")
        assert door.ledger.studies.receiving() == []
        [event] = door.ledger.events.named("REFUSED")
        assert "free_bytes_min" in event.reason
        assert echo("127.0.0.1", door.port, called="DICOM_NODE") == 0


# ------------------------------------------------------------ where instances lie


@pytest.fixture
def of_all_sizes(tmp_path: Path) -> list[Path]:
    """Return instances of some kilobytes, a megabyte and over 4 MB."""
    return [
        write(make_instance(np.full((rows, 1024), rows, np.int16), number=number), tmp_path / name)
        for number, (rows, name) in enumerate(
            [(8, "small.dcm"), (512, "medium.dcm"), (3000, "large.dcm")], 1
        )
    ]


def test_an_instance_can_be_taken_out_by_the_commands_of_the_guide(
    tmp_path: Path, of_all_sizes: list[Path]
) -> None:
    guide = (ROOT / "docs" / "operator.md").read_text()
    command = "tail -c +$((8392704 + 1)) log/0/0000000007.segment | head -c 527014 > one.dcm"
    assert f"log/0/0000000007.segment@8392704+527014\n    {command}" in guide
    with Door(tmp_path / "door") as door:
        send(of_all_sizes[:2], "127.0.0.1", door.port, called="DICOM_NODE")
        for instance in door.catch_up().studies.instances(STUDY):
            segment, offset, size = re.split("[@+]", instance.path)
            ours = command.replace("log/0/0000000007.segment", segment)
            ours = ours.replace("8392704", offset).replace("527014", size)
            subprocess.run(["sh", "-c", ours], cwd=door.store.root, check=True)
            taken_out = pydicom.dcmread(door.store.root / "one.dcm")
            assert taken_out.SOPInstanceUID == instance.sop_instance_uid
            assert taken_out.file_meta.SourceApplicationEntityTitle == "SCANNER"


def test_what_is_over_four_megabytes_is_a_file_and_the_rest_lies_in_the_log(
    tmp_path: Path, of_all_sizes: list[Path]
) -> None:
    with Door(tmp_path / "door") as door:
        send(of_all_sizes, "127.0.0.1", door.port, called="DICOM_NODE")
        instances = door.catch_up().studies.instances(STUDY)
        folders = [instance.path.split("/")[0] for instance in instances]
        assert folders == ["log", "log", "instances"]
        for file, instance in zip(of_all_sizes, instances, strict=True):
            kept = door.store.file(instance.path)
            assert pydicom.dcmread(BytesIO(kept.read_bytes())) == pydicom.dcmread(file)
            assert len(kept.read_bytes()) == instance.size_bytes
            assert StoredFile.at(door.store.root, instance.path).exists()


def test_a_ledger_that_was_lost_is_made_anew_from_the_logs(
    tmp_path: Path, of_all_sizes: list[Path], free_port: int
) -> None:
    node = node_without_engines(tmp_path / "node", free_port).start()
    ledger = node.ledger()
    send(of_all_sizes, "127.0.0.1", free_port, called="DICOM_NODE")
    wait_until(lambda: len(ledger.studies.instances(STUDY)) == 3, 30, "the rows")
    before = ledger.studies.instances(STUDY)
    ledger.close()
    assert node.stop() == 0
    for file in node.data.glob("ledger.sqlite*"):
        file.unlink()
    node.start()
    ledger = node.ledger()
    assert ledger.studies.instances(STUDY) == before
    ledger.close()
    assert node.stop() == 0


def test_what_is_kept_ready_may_be_deleted_while_the_node_is_stopped(
    tmp_path: Path, of_all_sizes: list[Path], free_port: int
) -> None:
    node = node_without_engines(tmp_path / "node", free_port).start()
    send(of_all_sizes[:1], "127.0.0.1", free_port, called="DICOM_NODE")
    assert node.stop() == 0
    for pattern in ("free-*.segment", "*.part"):
        for file in (node.data / "log" / "0").glob(pattern):
            file.unlink()
    node.start()
    send(of_all_sizes[1:], "127.0.0.1", free_port, called="DICOM_NODE")
    ledger = node.ledger()
    wait_until(lambda: len(ledger.studies.instances(STUDY)) == 3, 30, "the rows")
    for file, instance in zip(of_all_sizes, ledger.studies.instances(STUDY), strict=True):
        kept = StoredFile.at(node.data, instance.path)
        assert pydicom.dcmread(BytesIO(kept.read_bytes())) == pydicom.dcmread(file)
    ledger.close()
    assert node.stop() == 0
