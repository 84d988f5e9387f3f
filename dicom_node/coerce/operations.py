"""Operations: set, copy, remove, map, replace and hash attributes of one data set."""

from __future__ import annotations

import re
from collections.abc import Callable

from pydicom.config import RAISE
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag
from pydicom.valuerep import validate_value

from dicom_node.coerce.elements import texts_of
from dicom_node.coerce.profile import Copy, Hash, Map, Operation, Remove, Replace, Set
from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.errors import StudyUnusable

_UTF_8 = "ISO_IR 192"


def perform(operation: Operation, dataset: Dataset, pseudonyms: Pseudonyms) -> None:
    """Change a data set in place; only elements are replaced, none is changed itself.

    Raises
    ------
    StudyUnusable
        If the new value is none that the attribute may have.
    """
    keyword = operation.keyword
    match operation:
        case Set(value=value):
            put(dataset, keyword, value)
        case Copy(source=source):
            if source in dataset and not dataset[source].is_empty:
                put(dataset, keyword, texts_of(dataset[source].value))
        case Remove():
            if keyword in dataset:
                del dataset[keyword]
        case Map(values=values, keeps_others=keeps_others):
            _change(dataset, keyword, lambda text: values.get(text, text if keeps_others else ""))
            if keyword in dataset and not any(texts_of(dataset[keyword].value)):
                del dataset[keyword]
        case Replace(pattern=pattern, replacement=replacement):
            _change(dataset, keyword, lambda text: re.sub(pattern, replacement, text))
        case Hash():
            _change(dataset, keyword, lambda text: text and pseudonyms.text(keyword, text))


def put(dataset: Dataset, keyword: str, value: object) -> None:
    """Give an attribute of a data set a value; the character set grows if it must.

    Raises
    ------
    StudyUnusable
        If the attribute cannot have this value.
    """
    vr = dictionary_VR(keyword)
    for one in value if isinstance(value, list) else [value]:
        try:
            validate_value(vr, one, RAISE)
        except ValueError as error:
            raise StudyUnusable(
                f"not forwarded: the new value of {keyword} is none of VR {vr}",
                hint="change the profile in the rules file",
            ) from error
        if isinstance(one, str) and not one.isascii():
            _widen_character_set(dataset)
    element = DataElement(Tag(keyword), vr, value)
    dataset[element.tag] = element


def _change(dataset: Dataset, keyword: str, change: Callable[[str], str]) -> None:
    if keyword not in dataset or dataset[keyword].is_empty:
        return
    values = dataset[keyword].value
    before = texts_of(values)
    after = [change(text) for text in before]
    if after != before:
        put(dataset, keyword, after if len(after) > 1 else after[0])


def _widen_character_set(dataset: Dataset) -> None:
    """Turn a data set to UTF-8, so that it can hold any text beside its own."""
    if str(dataset.get("SpecificCharacterSet") or "") != _UTF_8:
        dataset.decode()
        dataset.SpecificCharacterSet = _UTF_8
