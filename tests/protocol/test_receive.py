"""The door: what it negotiates, whom it admits, and what it says when the disk is full."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, AllStoragePresentationContexts, build_context

from dicom_node.harness.scanner import echo, send
from tests.door import Door
from tests.node_process import wait_until

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
