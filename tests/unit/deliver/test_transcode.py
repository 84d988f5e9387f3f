"""What is made of a transfer syntax has the same pixels and the same header, or it is not made."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.filereader import read_dataset
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from dicom_node.deliver.transcode import makes, transcode
from dicom_node.errors import StudyUnusable
from dicom_node.scu.content import Content
from dicom_node.scu.part10 import Part10File
from tests.factories import make_instance, write

DATA = Path(__file__).parents[2] / "data"
SYNTAXES = sorted((DATA / "transfer-syntaxes").glob("*.dcm"))
EXPLICIT, IMPLICIT = str(ExplicitVRLittleEndian), str(ImplicitVRLittleEndian)
MPEG4 = "1.2.840.10008.1.2.4.102"
PROGRESSIVE = frozenset({"1.2.840.10008.1.2.4.53", "1.2.840.10008.1.2.4.55"})
"""pydicom decodes neither of them."""

RequireProgram = Callable[[str], Path]


def made_of(file: Path, target: str) -> Dataset:
    opened = Part10File.read(file)
    assert opened.context is not None
    content = transcode(Content.of(opened.data_set_part()), opened.context[1], target)
    return parsed(content, target)


def parsed(content: Content, syntax: str) -> Dataset:
    dataset = read_dataset(BytesIO(content.read()), UID(syntax).is_implicit_VR, True)
    dataset.decode()
    return dataset


def encoded(dataset: Dataset, syntax: UID) -> Content:
    buffer = BytesIO()
    dcmwrite(buffer, Dataset(dataset), implicit_vr=syntax.is_implicit_VR, little_endian=True)
    return Content.of(buffer.getvalue())


def pixels_of(dataset: Dataset, like: Dataset) -> np.ndarray:
    kind = f"<{'i' if like.PixelRepresentation else 'u'}{like.BitsAllocated // 8}"
    return np.frombuffer(dataset.PixelData, kind).reshape(like.Rows, like.Columns)


def but_pixels(dataset: Dataset) -> dict[str, object]:
    """Return the values of a header; group lengths, which are retired, are not written."""
    return {
        f"{element.tag}": element.value
        for element in dataset
        if element.keyword != "PixelData" and element.tag.element
    }


def test_there_is_a_file_for_each_syntax_that_is_made_into_another() -> None:
    assert len(SYNTAXES) == 13


@pytest.mark.parametrize("target", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("file", SYNTAXES, ids=lambda file: file.stem.partition("_")[2])
def test_each_syntax_keeps_its_pixels_and_its_header(file: Path, target: str) -> None:
    source = pydicom.dcmread(file)
    if str(source.file_meta.TransferSyntaxUID) == target:
        assert target not in makes(target)
        return
    assert target in makes(str(source.file_meta.TransferSyntaxUID))
    made = made_of(file, target)
    assert but_pixels(made) == but_pixels(source)
    if str(source.file_meta.TransferSyntaxUID) not in PROGRESSIVE:
        assert np.array_equal(pixels_of(made, source), source.pixel_array)


@pytest.mark.witness
@pytest.mark.parametrize("uid", sorted(PROGRESSIVE))
def test_progressive_jpeg_is_what_dcmtk_makes_of_it(
    uid: str, tmp_path: Path, require_program: RequireProgram
) -> None:
    file = DATA / "transfer-syntaxes" / f"CTImage_{uid}.dcm"
    theirs = tmp_path / "theirs.dcm"
    subprocess.run([require_program("dcmdjpeg"), file, theirs], check=True, timeout=60)
    made, source = made_of(file, EXPLICIT), pydicom.dcmread(theirs)
    difference = pixels_of(made, source).astype(int) - source.pixel_array
    assert abs(difference).max() <= 1  # two inverse DCTs may round differently


@pytest.mark.witness
def test_big_endian_is_turned_back_as_dcmtk_turned_it(
    tmp_path: Path, require_program: RequireProgram
) -> None:
    source = make_instance()
    source.SimpleFrameList = [1, 70_000]  # UL
    source.FloatPixelPaddingValue = 1.5  # FL
    source.RealWorldValueLUTData = [0.25, -1e100]  # FD
    source.FrameIncrementPointer = 0x00181063  # AT
    little, big = write(source, tmp_path / "little.dcm"), tmp_path / "big.dcm"
    subprocess.run([require_program("dcmconv"), "+tb", little, big], check=True, timeout=60)
    written = pydicom.dcmread(big)
    assert written.file_meta.TransferSyntaxUID == ExplicitVRBigEndian
    assert written.PixelData != source.PixelData  # it did turn the words
    for target in (EXPLICIT, IMPLICIT):
        made = made_of(big, target)
        assert made.PixelData == source.PixelData
        assert but_pixels(made) == but_pixels(source)


def test_values_that_break_their_vr_are_left_as_they_are() -> None:
    """Twelve kinds of nonsense in real headers: pydicom would stumble, or change them."""
    broken = {
        0x00080020: (b"DA", b"yesterday "),
        0x00181050: (b"DS", b"1,5 "),
        0x00200013: (b"IS", b"one "),
        0x00100010: (b"PN", b"\xff\xfe^\x80 "),
        0x00080005: (b"CS", b"NO_SUCH_SET "),
    }
    source = b"".join(
        tag.to_bytes(4, "big")[1::-1]
        + tag.to_bytes(4, "big")[:1:-1]
        + vr
        + len(value).to_bytes(2, "little")
        + value
        for tag, (vr, value) in sorted(broken.items())
    )
    implicit = transcode(Content.of(source), EXPLICIT, IMPLICIT).read()
    for _, value in broken.values():
        assert value in implicit
    assert transcode(Content.of(implicit), IMPLICIT, EXPLICIT).read() == source


@pytest.mark.parametrize("file", sorted((DATA / "charsets").rglob("*.dcm")), ids=lambda f: f.name)
def test_names_in_any_character_set_come_back_from_implicit(file: Path) -> None:
    source = pydicom.dcmread(file)
    if source.file_meta.TransferSyntaxUID != ExplicitVRLittleEndian:
        pytest.skip("not in Explicit VR Little Endian")
    implicit = transcode(encoded(source, ExplicitVRLittleEndian), EXPLICIT, IMPLICIT)
    assert but_pixels(parsed(implicit, IMPLICIT)) == but_pixels(source)


def test_sequences_private_elements_and_ambiguous_vrs_keep_their_meaning() -> None:
    source = make_instance()
    source.PixelRepresentation = 1
    source.SmallestImagePixelValue = -5  # US or SS
    item = Dataset()
    item.CodeValue = "123"
    nested = Dataset()
    nested.ReferencedSOPSequence = [item]
    source.ReferencedStudySequence = [nested, Dataset()]
    block = source.private_block(0x0009, "TESTS", create=True)
    block.add_new(0x01, "OB", b"\1\2\3\4")
    implicit = transcode(encoded(source, ExplicitVRLittleEndian), EXPLICIT, IMPLICIT)
    again = transcode(implicit, IMPLICIT, EXPLICIT)
    dataset = parsed(again, EXPLICIT)
    assert dataset.SmallestImagePixelValue == -5
    assert dataset.ReferencedStudySequence == source.ReferencedStudySequence
    assert dataset[0x00090010].value == "TESTS"
    private = dataset[0x00091001]
    assert (private.VR, private.value) == ("UN", b"\1\2\3\4")  # nobody knows its VR any more
    assert dataset.PixelData == source.PixelData


# ------------------------------------------------------------ what compression leaves behind


def compressed(dataset: FileDataset, syntax: UID) -> Content:
    dataset.compress(syntax, generate_instance_uid=False)
    return encoded(dataset, syntax)


def test_a_lossy_source_says_so_when_its_syntax_no_longer_does() -> None:
    source = pydicom.dcmread(DATA / "transfer-syntaxes" / f"CTImage_{JPEGBaseline8Bit}.dcm")
    del source.LossyImageCompression
    del source.LossyImageCompressionMethod
    content = encoded(source, JPEGBaseline8Bit)
    made = parsed(transcode(content, str(JPEGBaseline8Bit), EXPLICIT), EXPLICIT)
    assert (made.LossyImageCompression, made.LossyImageCompressionMethod) == ("01", "ISO_10918_1")


def test_a_lossless_source_is_not_called_lossy() -> None:
    made = parsed(
        transcode(compressed(make_instance(), RLELossless), str(RLELossless), EXPLICIT), EXPLICIT
    )
    assert "LossyImageCompression" not in made


def test_colours_keep_their_values_and_come_pixel_by_pixel() -> None:
    source = make_instance()
    values = np.arange(4 * 6 * 3, dtype=np.uint8).reshape(4, 6, 3)
    source.Rows, source.Columns, source.SamplesPerPixel = 4, 6, 3
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit, source.PixelRepresentation, source.PlanarConfiguration = 7, 0, 0
    source.PhotometricInterpretation = "RGB"
    source.PixelData = values.tobytes()
    source.compress(RLELossless, generate_instance_uid=False)
    source.PlanarConfiguration = 1  # as most say of RLE, which keeps colours apart (PS3.5 G.2)
    content = encoded(source, RLELossless)
    made = parsed(transcode(content, str(RLELossless), IMPLICIT), IMPLICIT)
    assert made.PixelData == values.tobytes()
    assert (made.PlanarConfiguration, made.PhotometricInterpretation) == (0, "RGB")


def test_the_frames_of_a_segmentation_in_rle_come_in_order_and_odd_ones_are_padded() -> None:
    source = make_instance()
    values = np.arange(3 * 5 * 7, dtype=np.uint8).reshape(3, 5, 7)
    source.SOPClassUID = UID("1.2.840.10008.5.1.4.1.1.66.7")  # Label Map Segmentation Storage
    source.Rows, source.Columns, source.NumberOfFrames = 5, 7, 3
    source.BitsAllocated = source.BitsStored = 8
    source.HighBit, source.PixelRepresentation = 7, 0
    source.PixelData = values.tobytes() + b"\0"
    content = compressed(source, RLELossless)
    made = parsed(transcode(content, str(RLELossless), IMPLICIT), IMPLICIT)
    assert made.PixelData == values.tobytes() + b"\0"
    assert made.NumberOfFrames == 3


def test_an_icon_that_is_compressed_too_is_left_out() -> None:
    source = make_instance()
    icon = Dataset()
    icon.Rows = icon.Columns = 2
    icon.add_new(0x7FE00010, "OB", encapsulate([b"\1\2\3\4"]))
    icon[0x7FE00010].is_undefined_length = True
    source.IconImageSequence = Sequence([icon])
    content = compressed(source, RLELossless)
    made = parsed(transcode(content, str(RLELossless), EXPLICIT), EXPLICIT)
    assert "IconImageSequence" not in made
    assert made.PixelData == make_instance().PixelData


def test_an_extended_offset_table_goes_with_what_it_is_about() -> None:
    source = make_instance()
    source.compress(RLELossless, generate_instance_uid=False, encapsulate_ext=True)
    assert "ExtendedOffsetTable" in source
    content = encoded(source, RLELossless)
    made = parsed(transcode(content, str(RLELossless), EXPLICIT), EXPLICIT)
    assert "ExtendedOffsetTable" not in made
    assert made.PixelData == make_instance().PixelData


# ------------------------------------------------------------ what cannot be made


def test_of_video_nothing_is_made() -> None:
    assert makes(MPEG4) == ()
    assert makes("1.2.3.4") == ()


def broken_stream(dataset: FileDataset) -> None:
    dataset.PixelData = encapsulate([b"\xff\x4f\xff\x51nonsense"])


def too_few_frames(dataset: FileDataset) -> None:
    dataset.NumberOfFrames = 2


def other_size(dataset: FileDataset) -> None:
    dataset.Rows += 1


@pytest.mark.parametrize("spoil", [broken_stream, too_few_frames, other_size])
def test_pixels_that_cannot_be_decoded_are_an_error_and_never_left_out(
    spoil: Callable[[FileDataset], None],
) -> None:
    source = make_instance()
    source.compress(JPEG2000Lossless, generate_instance_uid=False)
    spoil(source)
    content = encoded(source, JPEG2000Lossless)
    with pytest.raises(StudyUnusable):
        transcode(content, str(JPEG2000Lossless), EXPLICIT)


def test_a_cut_off_deflated_data_set_is_an_error() -> None:
    file = Part10File.read(DATA / "transfer-syntaxes" / "CTImage_1.2.840.10008.1.2.1.99.dcm")
    with pytest.raises(StudyUnusable, match="cut off"):
        transcode(
            Content.of(file.data_set()[:-5000]), str(DeflatedExplicitVRLittleEndian), EXPLICIT
        )


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, ExplicitVRLittleEndian])
@pytest.mark.parametrize("left", [0.9, 0.5])
def test_a_data_set_that_is_cut_off_is_an_error(syntax: UID, left: float) -> None:
    source = make_instance()
    content = encoded(source, syntax) if not syntax.is_encapsulated else compressed(source, syntax)
    whole = content.read()
    cut = Content.of(whole[: int(len(whole) * left)])
    with pytest.raises(StudyUnusable):
        transcode(cut, str(syntax), IMPLICIT)


def test_an_image_without_pixels_is_an_error() -> None:
    source = make_instance()
    del source.PixelData
    with pytest.raises(StudyUnusable, match="no pixels"):
        transcode(encoded(source, ExplicitVRLittleEndian), EXPLICIT, IMPLICIT)


def test_a_report_needs_no_pixels() -> None:
    report = Dataset()
    report.SOPInstanceUID = "1.2.3"
    report.ContentSequence = [Dataset()]
    for syntax in (ExplicitVRLittleEndian, JPEG2000Lossless):
        made = parsed(transcode(encoded(report, syntax), str(syntax), IMPLICIT), IMPLICIT)
        assert made == report


def test_pixels_that_are_encapsulated_where_none_may_be_are_an_error() -> None:
    source = make_instance()
    source.compress(RLELossless, generate_instance_uid=False)
    content = encoded(source, RLELossless)
    with pytest.raises(StudyUnusable, match="encapsulated"):
        transcode(content, EXPLICIT, IMPLICIT)  # its File Meta lied
