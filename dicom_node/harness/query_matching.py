"""What an archive answers to a C-FIND: headers in, identifiers out (PS3.4 C.2.2.2, C.4.1). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate

from pydicom import config
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

UNIQUE_KEYS = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}

COUNTS = frozenset(
    {
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
        "NumberOfSeriesRelatedInstances",
    }
)


@dataclass(frozen=True)
class Held:
    """An instance that the archive holds."""

    header: Dataset
    transfer_syntax_uid: str

    def value(self, keyword: str) -> str:
        """Return an attribute as text, its values joined by backslashes."""
        value = self.header.get(keyword)
        several = value if isinstance(value, MultiValue | list) else [value]
        return "\\".join("" if one is None else str(one) for one in several)

    def is_named_by(self, identifier: Dataset) -> bool:
        """Return whether the identifier of a C-MOVE or C-GET names it by its unique keys."""
        return all(
            _matches(keyword, _wanted(identifier, keyword), self.value(keyword))
            for keyword in UNIQUE_KEYS.values()
        )


def matches_of(
    held: Sequence[Held], identifier: Dataset, ae_title: str, *, tells_counts: bool = True
) -> Iterator[Dataset]:
    """Yield an identifier for each patient, study, series or instance that matches.

    Parameters
    ----------
    tells_counts : bool
        Whether Number of Study Related Instances and the like are filled in.
    """
    unique_key = UNIQUE_KEYS[str(identifier.QueryRetrieveLevel)]
    groups: dict[str, list[Held]] = {}
    for one in held:
        groups.setdefault(one.value(unique_key), []).append(one)
    for group in groups.values():
        computed = _computed(group[0], held, ae_title)
        if not tells_counts:
            computed |= dict.fromkeys(COUNTS, "")
        values = {
            element.keyword: computed.get(element.keyword, group[0].value(element.keyword))
            for element in identifier
            if element.keyword and element.keyword != "QueryRetrieveLevel"
        }
        charset = group[0].value("SpecificCharacterSet")
        wanted = {keyword: _wanted(identifier, keyword) for keyword in values}
        if all(
            _matches(keyword, wanted[keyword], value)
            for keyword, value in values.items()
            if keyword not in COUNTS | {"SpecificCharacterSet"}
        ):
            yield _answer(identifier, values | {"SpecificCharacterSet": charset})


def _computed(one: Held, held: Sequence[Held], ae_title: str) -> dict[str, str]:
    study = [other for other in held if _same(one, other, "StudyInstanceUID")]
    series = [other for other in study if _same(one, other, "SeriesInstanceUID")]
    return {
        "RetrieveAETitle": ae_title,
        "ModalitiesInStudy": "\\".join(sorted({other.value("Modality") for other in study})),
        "SOPClassesInStudy": "\\".join(sorted({other.value("SOPClassUID") for other in study})),
        "NumberOfStudyRelatedSeries": str(
            len({other.value("SeriesInstanceUID") for other in study})
        ),
        "NumberOfStudyRelatedInstances": str(len(study)),
        "NumberOfSeriesRelatedInstances": str(len(series)),
        "AvailableTransferSyntaxUID": one.transfer_syntax_uid,
    }


def _same(one: Held, other: Held, keyword: str) -> bool:
    return one.value(keyword) == other.value(keyword)


def _wanted(identifier: Dataset, keyword: str) -> list[str]:
    value = identifier.get(keyword)
    several = value if isinstance(value, MultiValue | list) else [value]
    return [str(one) for one in several if one not in (None, "")]


def _matches(keyword: str, wanted: Sequence[str], value: str) -> bool:
    """Return whether any value matches any that is wanted; what is not there matches nothing."""
    if not wanted:
        return True
    values = value.split("\\")
    if keyword.endswith("Date"):
        return any(_in_range(key, one) for key in wanted for one in values)
    return any(re.match(translate(key), one) for key in wanted for one in values)


def _in_range(key: str, date: str) -> bool:
    first, dash, last = key.partition("-")
    return bool(date) and (first or "0") <= date <= (last or ("9" if dash else first))


def _answer(identifier: Dataset, values: Mapping[str, str]) -> Dataset:
    answer = Dataset()
    answer.QueryRetrieveLevel = identifier.QueryRetrieveLevel
    if values["SpecificCharacterSet"]:
        answer.SpecificCharacterSet = values["SpecificCharacterSet"].split("\\")
    for element in identifier:
        if element.keyword in values and element.keyword != "SpecificCharacterSet":
            value = values[element.keyword]
            answer.add(
                DataElement(element.tag, element.VR, value or None, validation_mode=config.IGNORE)
            )
    return answer
