from __future__ import annotations

import hashlib

import pytest

from dicom_node.uid import derived_uid, is_ae_title, is_uid


@pytest.mark.parametrize(
    "text",
    [
        "1.2",
        "1.2.840.10008.1.2",
        "2.25." + "9" * 39,
        "1." + "2" * 62,  # 64 characters
        "1.2.0.03.4",  # a leading zero is wrong, but harmless
    ],
)
def test_it_passes_as_a_uid(text: str) -> None:
    assert is_uid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        ".",
        "1.",
        ".2",
        "1..2",
        "1.2.840.x",
        "1.2 ",
        "1.2\n",
        "1.2\0",
        "1." + "2" * 63,  # 65 characters
        "../../etc/passwd",
        "1.2/../../3.4",
        "1.2\\3.4",
        "None",
        "1.٢",  # an Arabic-Indic digit
        "-1.2",
    ],
)
def test_it_is_no_uid(text: str) -> None:
    assert not is_uid(text)


@pytest.mark.parametrize("text", ["A", "ARCHIVE", "  ARCHIVE  ", "a b", "X" * 16, "PACS-1_B"])
def test_it_is_an_ae_title(text: str) -> None:
    assert is_ae_title(text)


@pytest.mark.parametrize("text", ["", "   ", "X" * 17, "A\\B", "A\nB", "A\0", "ÄRCHIV", "\x7f"])
def test_it_is_no_ae_title(text: str) -> None:
    assert not is_ae_title(text)


def test_a_derived_uid_is_the_digest_of_its_length_prefixed_parts() -> None:
    data = b"\0\0\0\0\0\0\0\x03job" + b"\0\0\0\0\0\0\0\x03SEG"
    number = int(hashlib.sha256(data).hexdigest()[:32], 16)
    assert derived_uid("job", "SEG") == f"2.25.{number}"


def test_parts_that_run_together_give_other_uids() -> None:
    parts = [("ab", "c"), ("a", "bc"), ("abc",), ("abc", ""), ("", "abc")]
    assert len({derived_uid(*some) for some in parts}) == len(parts)


def test_every_derived_uid_is_a_uid() -> None:
    made = [derived_uid("job", str(number)) for number in range(500)]
    assert all(is_uid(uid) for uid in made)
    assert len(set(made)) == 500
