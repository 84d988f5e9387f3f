"""Whatever a data set holds, and however deep: what identifies somebody is not in the copy."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import Tag

from dicom_node.coerce.coercion import apply
from dicom_node.coerce.profile import Option
from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.coerce.restore import restore
from dicom_node.coerce.table import basic_actions
from dicom_node.data_sets import decode, encode
from tests.factories import make_instance
from tests.unit.coerce.copies import SECRET, a_profile

EXPLICIT, IMPLICIT = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
NOT_RETAINING = (
    Option.CLEAN_DESCRIPTORS,
    Option.CLEAN_GRAPHICS,
    Option.CLEAN_STRUCTURED_CONTENT,
    Option.RETAIN_LONGITUDINAL_MODIFIED_DATES,
    Option.RETAIN_SAFE_PRIVATE,
)
"""Options that promise to keep no value as it was."""

TREATED = sorted(
    tag
    for tag in basic_actions()
    if dictionary_has_tag(tag) and dictionary_VR(tag) in {"LO", "PN", "SH", "ST", "LT", "UT", "UC"}
)
UIDS_OF_TABLE = sorted(
    tag
    for tag in basic_actions()
    if dictionary_has_tag(tag) and tag > 0x80000 and dictionary_VR(tag) == "UI"
)
SEQUENCES = (0x00081115, 0x00081140, 0x0040A730, 0x00400275, 0x52009230, 0x00081250, 0x00700001)
NAMES = st.text(string.ascii_lowercase, min_size=6, max_size=10).map(lambda word: f"Zq{word}xj")
UIDS = st.integers(10**6, 10**12).map(lambda number: f"1.2.99.{number}")


@st.composite
def identified(draw: st.DrawFn, depth: int = 0) -> tuple[Dataset, set[str]]:
    """Return a data set with names and UIDs where they may stand, and all of these."""
    dataset, marks = Dataset(), set()
    for tag in draw(st.lists(st.sampled_from(TREATED), max_size=6, unique=True)):
        name = draw(NAMES)
        marks.add(name)
        dataset.add(DataElement(Tag(tag), dictionary_VR(tag), name))
    for tag in draw(st.lists(st.sampled_from(UIDS_OF_TABLE), max_size=4, unique=True)):
        uid = draw(UIDS)
        marks.add(uid)
        dataset.add(DataElement(Tag(tag), "UI", uid))
    if draw(st.booleans()):
        name = draw(NAMES)
        marks.add(name)
        block = dataset.private_block(draw(st.sampled_from([0x0009, 0x7053])), name, create=True)
        block.add_new(draw(st.integers(0, 0xFF)), "LO", name)
    if draw(st.booleans()):
        name = draw(NAMES)
        marks.add(name)
        dataset.add_new(draw(st.sampled_from([0x60004000, 0x50000030, 0x00189FF0])), "LO", name)
    if depth < 3:
        for tag in draw(st.lists(st.sampled_from(SEQUENCES), max_size=2, unique=True)):
            items = draw(st.lists(identified(depth + 1), min_size=1, max_size=2))
            dataset.add(DataElement(Tag(tag), "SQ", Sequence([item for item, _ in items])))
            marks.update(*(found for _, found in items))
    return dataset, marks


def instance_with(inner: Dataset, name: str) -> Dataset:
    """Return an instance of a patient of this name, with these elements beside its own."""
    dataset = make_instance(PatientName=f"{name}^Jane", PatientID=f"{name}-1")
    del dataset.PixelData
    for element in inner:
        dataset[element.tag] = element
    dataset.StudyInstanceUID = dataset.StudyInstanceUID or "1.2.3"
    return dataset


@settings(max_examples=150, deadline=None)
@given(
    identified(),
    NAMES,
    st.sets(st.sampled_from(NOT_RETAINING)),
    st.sampled_from([EXPLICIT, IMPLICIT]),
)
def test_nothing_that_identifies_survives(
    made: tuple[Dataset, set[str]], name: str, options: set[Option], syntax: str
) -> None:
    inner, marks = made
    read = decode(encode(instance_with(inner, name), syntax), syntax)
    sent = encode(apply(a_profile(*options), read, SECRET).dataset, syntax)
    for mark in (*marks, name):
        assert mark.encode() not in sent


@settings(max_examples=60, deadline=None)
@given(identified(), st.sets(st.sampled_from(NOT_RETAINING)))
def test_the_same_data_set_gives_the_same_copy(
    made: tuple[Dataset, set[str]], options: set[Option]
) -> None:
    dataset = instance_with(made[0], "Zqnamexj")
    one, two = (apply(a_profile(*options), dataset, SECRET) for _ in range(2))
    assert encode(one.dataset, EXPLICIT) == encode(two.dataset, EXPLICIT)
    assert one.crosswalk_entries == two.crosswalk_entries


@given(st.sets(st.text(min_size=1), min_size=2, max_size=50))
def test_uids_are_replaced_one_to_one(originals: set[str]) -> None:
    ours = Pseudonyms(SECRET, "research")
    assert len({ours.uid(one) for one in originals}) == len(originals)


@settings(max_examples=60, deadline=None)
@given(identified())
def test_every_uid_of_a_copy_finds_its_way_back(made: tuple[Dataset, set[str]]) -> None:
    dataset = instance_with(made[0], "Zqnamexj")
    coerced = apply(a_profile(Option.CLEAN_STRUCTURED_CONTENT), dataset, SECRET)
    result = coerced.dataset
    result.SOPInstanceUID = "1.2.3.4.5"  # of the receiver's result
    back = restore(result, coerced.crosswalk_entries)

    def uids(one: Dataset) -> list[Any]:
        return [element.value for element in one.iterall() if element.VR == "UI"]

    originals = {str(uid) for uid in uids(dataset)} | {"1.2.3.4.5"}
    known = {uid for uid in originals if not uid.startswith("1.2.840.10008.")}
    assert all(str(uid) in known for uid in uids(back) if not str(uid).startswith("1.2.840.10008."))
