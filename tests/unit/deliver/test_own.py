"""Whether what came back is what was sent, whatever was made of it on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    UID,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from dicom_node.claims import Forwarded
from dicom_node.coerce.profile import Deidentification, Profile
from dicom_node.data_sets import decode, encode
from dicom_node.deliver.own import Own
from dicom_node.deliver.transcode import transcode
from dicom_node.errors import ResultLost
from dicom_node.model import Instance
from dicom_node.scu.content import Content
from dicom_node.scu.retrieve import ReceivedInstance
from tests.factories import make_instance
from tests.unit.deliver.forwarding import Forwarding
from tests.unit.ledger.rows import a_result

EXPLICIT = str(ExplicitVRLittleEndian)


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[Forwarding]:
    profile = Profile("research", Deidentification())
    forwarding = Forwarding(tmp_path, profiles={"research": profile})
    yield forwarding
    forwarding.ledger.close()


def add(stored: Forwarding, dataset: Dataset) -> Instance:
    """Lay an instance into the store, in the transfer syntax of its File Meta."""
    instance = stored.add(dataset)
    return instance.__class__(
        **{
            **instance.__dict__,
            "transfer_syntax_uid": str(dataset.file_meta.TransferSyntaxUID),
            "study_instance_uid": str(dataset.StudyInstanceUID),
            "series_instance_uid": str(dataset.SeriesInstanceUID),
        }
    )


def as_it_came(instance: Instance, **changes: str) -> Forwarded:
    given = {
        "digest": instance.digest,
        "profile": "",
        "study_instance_uid": instance.study_instance_uid,
        "series_instance_uid": instance.series_instance_uid,
        "sop_instance_uid": instance.sop_instance_uid,
    }
    return Forwarded(instance, **(given | changes))


def back(dataset: Dataset, syntax: UID | str = ExplicitVRLittleEndian) -> ReceivedInstance:
    """Return a data set as an archive gives it back."""
    uids = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    return ReceivedInstance(*uids, str(syntax), encode(dataset, str(syntax)))


def own(stored: Forwarding) -> Own:
    return Own(stored.store, stored.copies)


def test_an_original_may_be_encoded_anew_and_its_patient_corrected(stored: Forwarding) -> None:
    dataset = make_instance()
    sent = as_it_came(add(stored, dataset))
    assert own(stored).is_same(sent, back(dataset))
    assert own(stored).is_same(sent, back(dataset, ImplicitVRLittleEndian))
    dataset.PatientName = "Corrected^Name"
    assert own(stored).is_same(sent, back(dataset))
    dataset.PixelData = bytes([dataset.PixelData[0] ^ 1]) + dataset.PixelData[1:]
    assert own(stored).is_same(sent, back(dataset)) is False


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
def test_pixels_may_come_back_decoded_or_compressed_otherwise(
    syntax: UID, stored: Forwarding
) -> None:
    plain, compressed, other = (make_instance() for _ in range(3))
    compressed.compress(syntax, generate_instance_uid=False)
    other.compress(RLELossless, generate_instance_uid=False)
    sent = as_it_came(add(stored, compressed))
    assert own(stored).is_same(sent, back(compressed, syntax))
    assert own(stored).is_same(sent, back(plain))
    assert own(stored).is_same(sent, back(other, RLELossless))
    plain.PixelData = bytes(len(plain.PixelData))
    assert own(stored).is_same(sent, back(plain)) is False


def test_words_may_come_back_in_the_other_byte_order(stored: Forwarding) -> None:
    plain, big = make_instance(), make_instance()
    big.PixelData = np.frombuffer(big.PixelData, "u2").byteswap().tobytes()
    big.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
    big.set_original_encoding(False, False)
    sent = as_it_came(add(stored, big))
    assert own(stored).is_same(sent, back(big, ExplicitVRBigEndian))
    assert own(stored).is_same(sent, back(plain))


def a_colour_jpeg() -> Dataset:
    """Return an instance whose JPEG is decoded to RGB by who does not take it."""
    rows, columns = np.mgrid[:64, :64]
    rgb = np.stack([rows * 4, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    frame = bytes(imagecodecs.jpeg_encode(rgb, level=90))
    made = make_instance(
        Rows=64,
        Columns=64,
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422",
        PlanarConfiguration=0,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
    )
    made.PixelData = encapsulate([frame])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    return made


def test_lossy_pixels_are_the_same_as_we_decode_them_and_else_nobody_can_say(
    stored: Forwarding,
) -> None:
    dataset = a_colour_jpeg()
    sent = as_it_came(add(stored, dataset))
    assert own(stored).is_same(sent, back(dataset, JPEGBaseline8Bit))
    made = transcode(
        Content.of(encode(dataset, str(JPEGBaseline8Bit))), str(JPEGBaseline8Bit), EXPLICIT
    )
    uids = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    as_we_decode = ReceivedInstance(*uids, EXPLICIT, made.read())
    assert own(stored).is_same(sent, as_we_decode)
    decoded = decode(made.read(), EXPLICIT)
    decoded.PixelData = bytes([decoded.PixelData[0] ^ 1]) + decoded.PixelData[1:]
    assert own(stored).is_same(sent, back(decoded)) is None
    other = a_colour_jpeg()
    black = bytes(imagecodecs.jpeg_encode(np.zeros((64, 64, 3), np.uint8)))
    other.PixelData = encapsulate([black])
    other["PixelData"].is_undefined_length = True
    assert own(stored).is_same(sent, back(other, JPEGBaseline8Bit)) is False


def test_a_copy_is_compared_with_the_copy(stored: Forwarding) -> None:
    dataset = make_instance()
    instance = add(stored, dataset)
    made = stored.copies.copy(instance, "research")
    copy = decode(made.content.read(), made.transfer_syntax_uid)
    sent = as_it_came(instance, profile="research", sop_instance_uid=made.sop_instance_uid)
    assert made.placed_in == (str(copy.StudyInstanceUID), str(copy.SeriesInstanceUID))
    assert own(stored).is_same(sent, back(copy))
    assert own(stored).is_same(sent, back(dataset)) is False


def test_what_we_no_longer_have_is_nobodys_fault(stored: Forwarding) -> None:
    dataset = make_instance()
    instance = add(stored, dataset)
    for sent, why in (
        (as_it_came(instance, digest="of other bytes"), "came again with other bytes"),
        (as_it_came(instance, profile="gone"), "there is no profile gone any more"),
        (as_it_came(instance, profile="research"), "profile research was changed"),
    ):
        with pytest.raises(ResultLost, match=why):
            own(stored).is_same(sent, back(dataset))
    stored.store.path(instance.path).unlink()
    with pytest.raises(ResultLost, match="ours cannot be read") as lost:
        own(stored).is_same(as_it_came(instance), back(dataset))
    assert "restore it from a backup" in lost.value.hint


def test_what_cannot_be_read_is_not_the_same_and_ours_is_lost(stored: Forwarding) -> None:
    dataset = make_instance()
    instance = add(stored, dataset)
    uids = str(dataset.SOPClassUID), str(dataset.SOPInstanceUID)
    for syntax in ("", EXPLICIT):
        broken = ReceivedInstance(*uids, syntax, b"\x10\0\x10\0PN\xff\xff")
        assert own(stored).is_same(as_it_came(instance), broken) is False
    gone = a_result(path="results/none.dcm")
    with pytest.raises(ResultLost, match="ours cannot be read"):
        own(stored).is_same(gone, back(dataset))
