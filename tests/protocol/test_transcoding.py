"""Each transfer syntax to a storescp that takes Implicit VR Little Endian alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ImplicitVRLittleEndian

from dicom_node.deliver.line import contexts_for, proposals
from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import Item, send, send_originals
from dicom_node.errors import PeerRefused
from dicom_node.scu.address import Address
from dicom_node.scu.content import Content
from dicom_node.scu.negotiation import CONTEXTS_MAX
from dicom_node.scu.part10 import Part10File
from tests.protocol.storescp import storescp
from tests.unit.deliver.test_transcode import PROGRESSIVE, SYNTAXES, but_pixels

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
JPEG_LS = "1.2.840.10008.1.2.4.80"
MPEG4 = "1.2.840.10008.1.2.4.102"

RequireProgram = Callable[[str], Path]


def item(file: Path) -> Item:
    context = Part10File.read(file).context
    assert context is not None
    return Item(file, *context)


@pytest.mark.witness
def test_every_syntax_arrives_with_its_pixels(
    tmp_path: Path, free_port: int, require_program: RequireProgram
) -> None:
    address = Address("127.0.0.1", free_port, "ARCHIVE", "DICOM_NODE", 30.0)
    program = require_program("storescp")
    with storescp(program, tmp_path / "received", free_port, "+xi") as folder:
        for file in SYNTAXES:
            assert list(send([item(file)], address)) == ["stored"], file.name
            (arrived,) = folder.iterdir()  # some share a SOP Instance UID: one at a time
            received, source = pydicom.dcmread(arrived), pydicom.dcmread(file)
            assert received.file_meta.TransferSyntaxUID == ImplicitVRLittleEndian
            assert but_pixels(received) == but_pixels(source), file.name
            if str(source.file_meta.TransferSyntaxUID) not in PROGRESSIVE:
                assert np.array_equal(received.pixel_array, source.pixel_array), file.name
            assert received.pixel_array.any()
            arrived.unlink()


@pytest.mark.witness
def test_who_takes_the_syntax_gets_the_bytes(
    tmp_path: Path, free_port: int, require_program: RequireProgram
) -> None:
    """storescp prefers JPEG-LS here, and takes what is uncompressed as well."""
    address = Address("127.0.0.1", free_port, "ARCHIVE", "DICOM_NODE", 30.0)
    file = next(file for file in SYNTAXES if file.stem.endswith(JPEG_LS))
    program = require_program("storescp")
    with storescp(program, tmp_path / "received", free_port, "+xt", "+B") as folder:
        assert list(send([item(file)], address)) == ["stored"]
        (arrived,) = folder.iterdir()
        assert Part10File.read(arrived).data_set() == Part10File.read(file).data_set()


@pytest.mark.witness
def test_what_cannot_be_converted_is_refused_with_the_reason_and_the_rest_goes_on(
    tmp_path: Path, free_port: int, require_program: RequireProgram
) -> None:
    address = Address("127.0.0.1", free_port, "ARCHIVE", "DICOM_NODE", 30.0)
    good = next(file for file in SYNTAXES if file.stem.endswith(JPEG_LS))
    encoded = Part10File.read(good).data_set()
    broken = Original(CT, "1.2.3", JPEG_LS, Content.of(encoded[: len(encoded) // 2]))
    video = Original(CT, "1.2.4", MPEG4, Content.of(encoded))
    whole = Original(CT, Part10File.read(good).sop_instance_uid, JPEG_LS, Content.of(encoded))
    program = require_program("storescp")
    with storescp(program, tmp_path / "received", free_port, "+xi") as folder:
        no_pixels, no_way, stored = send_originals([broken, video, whole], address)
        assert len(list(folder.iterdir())) == 1
    assert stored == "stored"
    for refused, said in ((no_pixels, "cannot be converted: "), (no_way, "cannot be converted")):
        assert isinstance(refused, PeerRefused)
        assert (refused.status, refused.retryable) == (0x0122, False)
        assert said in refused.message
        assert "have the destination accept this transfer syntax" in refused.hint


# ------------------------------------------------------------ what is proposed


def test_an_instance_is_proposed_as_it_is_first() -> None:
    assert contexts_for((CT, JPEG_LS)) == [(CT, JPEG_LS), (CT, EXPLICIT), (CT, IMPLICIT)]
    assert contexts_for((CT, IMPLICIT)) == [(CT, IMPLICIT), (CT, EXPLICIT)]
    assert contexts_for((CT, MPEG4)) == [(CT, MPEG4)]


def test_more_contexts_than_one_association_has_make_several() -> None:
    contexts = [(f"1.2.{number}", JPEG_LS) for number in range(100)]
    proposed = proposals(contexts)
    assert len(proposed) == 100
    assert len(set(proposed)) == 3
    for context, together in zip(contexts, proposed, strict=True):
        assert set(contexts_for(context)) <= together
        assert len(together) <= CONTEXTS_MAX


def test_equal_contexts_are_proposed_once() -> None:
    [together] = set(proposals([(CT, EXPLICIT)] * 1000))
    assert together == {(CT, EXPLICIT), (CT, IMPLICIT)}
    assert proposals([]) == []
