"""The scanner reads no more of a file than it must, and never changes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.harness.scanner import STORAGE_CONTEXTS_MAX, _batches
from dicom_node.scu.part10 import Part10File

CT_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.2"
CR_IMAGE_STORAGE = "1.2.840.10008.5.1.4.1.1.1"


def parcel(number: int, context: tuple[str, str] | None) -> Part10File:
    return Part10File(Path(f"{number}.dcm"), 0, context, f"1.2.{number}")


def test_the_data_set_begins_right_after_the_file_meta(data_dir: Path) -> None:
    read = Part10File.read(data_dir / "transfer-syntaxes" / "CTImage_1.2.840.10008.1.2.4.80.dcm")
    assert read.context == (CT_IMAGE_STORAGE, "1.2.840.10008.1.2.4.80")
    assert read.data_set()[:4] == b"\x08\x00\x05\x00"  # Specific Character Set comes first


def test_a_bare_data_set_is_sent_whole_as_implicit_little_endian(data_dir: Path) -> None:
    file = data_dir / "xray" / "cr-chest-fuji-mono1-implicit-noheader"
    read = Part10File.read(file)
    assert read.context == (CR_IMAGE_STORAGE, "1.2.840.10008.1.2")
    assert read.data_set() == file.read_bytes()


def test_file_meta_speaks_where_the_data_set_has_blank_uids(data_dir: Path) -> None:
    read = Part10File.read(data_dir / "malformed" / "blank-uids-ct-j2k-1.dcm")
    assert read.context == (CT_IMAGE_STORAGE, "1.2.840.10008.1.2.4.90")
    assert read.sop_instance_uid


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4 no DICOM at all", bytes(200)])
def test_what_is_not_dicom_has_no_context(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "nonsense"
    file.write_bytes(content)
    assert Part10File.read(file).context is None


def test_a_missing_file_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Part10File.read(tmp_path / "missing.dcm")


def test_batches_keep_the_order_and_fit_one_association() -> None:
    parcels = [parcel(n, (f"1.2.3.{n}", "1.2.840.10008.1.2")) for n in range(300)]
    batches = list(_batches(parcels))
    assert [item for batch in batches for item in batch] == parcels
    assert [len(batch) for batch in batches] == [STORAGE_CONTEXTS_MAX, STORAGE_CONTEXTS_MAX, 46]


def test_repeated_contexts_do_not_cut_a_batch() -> None:
    parcels = [parcel(n, (CT_IMAGE_STORAGE, "1.2.840.10008.1.2")) for n in range(300)]
    parcels.append(parcel(300, None))
    assert list(_batches(parcels)) == [parcels]
