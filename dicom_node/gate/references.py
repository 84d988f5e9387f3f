"""References of an object: each leads to a source, to the same tree, or to an earlier report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydicom.datadict import keyword_for_tag
from pydicom.dataset import Dataset

from dicom_node.gate.listings import Listing, under
from dicom_node.gate.tables import table_of
from dicom_node.gate.walk import elements_of
from dicom_node.headers import tag_of

_EVIDENCE = "CurrentRequestedProcedureEvidenceSequence"
_SERIES = "ReferencedSeriesSequence"
_INSTANCES = "ReferencedSOPSequence"
_CONTENT = "ContentSequence"


@dataclass(frozen=True)
class Known:
    """An instance that may be referenced."""

    sop_class_uid: str
    series_instance_uid: str
    study_instance_uid: str


def unknown_references(
    dataset: Dataset,
    sop_class_uid: str,
    known: Mapping[str, Known],
    listings: Sequence[Listing] = (),
) -> Iterator[str]:
    """Yield references that lead nowhere, or to another class than they say."""
    table = table_of(sop_class_uid)
    copied = frozenset() if table is None else table.inherited
    found: dict[int, list[tuple[str, str]]] = {}
    for element in elements_of(dataset):
        if element.VR == "SQ" and element.keyword not in copied:
            for item in element.value:
                for class_uid, uid in _references(item, found):
                    yield from _unknown(class_uid, uid, known)
    for listing in listings:
        if keyword_for_tag(listing.top) not in copied:
            for class_uid, uid in listing.references:
                yield from _unknown(class_uid, uid, known)


def broken_evidence(
    dataset: Dataset,
    known: Mapping[str, Known],
    others: Mapping[str, str],
    listings: Sequence[Listing] = (),
) -> Iterator[str]:
    """Yield what an SR or KO document refers to and does not list, or lists in a wrong place.

    Parameters
    ----------
    others : mapping
        Kind by SOP Instance UID: what an SR, the root of its tree, must list.
    """
    if dataset.get("Modality") not in ("SR", "KO"):
        return
    listed = set()
    for study_index, study in enumerate(dataset.get(_EVIDENCE, ())):
        for series_index, series in enumerate(study.get(_SERIES, ())):
            found = (str(series.SeriesInstanceUID), str(study.StudyInstanceUID))
            around = ((tag_of(_EVIDENCE), study_index), (tag_of(_SERIES), series_index))
            instances = [
                str(instance.get("ReferencedSOPInstanceUID"))
                for instance in series.get(_INSTANCES, ())
            ]
            instances += [uid for _, uid in under(listings, around, tag_of(_INSTANCES))]
            for uid in instances:
                listed.add(uid)
                place = known.get(uid)
                if place is not None and found != (
                    place.series_instance_uid,
                    place.study_instance_uid,
                ):
                    yield f"the evidence lists {uid} in a series or study that is not its own"
    referenced = [uid for item in dataset.get(_CONTENT, ()) for _, uid in _references(item, {})]
    for listing in listings:
        if listing.top == tag_of(_CONTENT):
            referenced += [uid for _, uid in listing.references]
    for uid in referenced:
        if uid not in listed:
            yield f"{uid} is referenced and not listed as evidence"
    if dataset.Modality == "SR":
        for uid, kind in others.items():
            if uid not in listed:
                yield f"the report does not list the {kind} {uid} of its tree"


def _references(
    item: Dataset, found: dict[int, list[tuple[str, str]]]
) -> Iterator[tuple[str, str]]:
    """Yield what an item refers to; `found` has it of sequences that were looked into, by `id`."""
    uid = item.get("ReferencedSOPInstanceUID")
    if uid is not None:
        yield str(item.get("ReferencedSOPClassUID", "")), str(uid)
    for element in elements_of(item):
        if element.VR == "SQ":
            if id(element) not in found:
                found[id(element)] = [
                    reference for one in element.value for reference in _references(one, found)
                ]
            yield from found[id(element)]


def _unknown(class_uid: str, uid: str, known: Mapping[str, Known]) -> Iterator[str]:
    place = known.get(uid)
    if place is None:
        yield f"{uid} is referenced and is neither a source nor in the tree"
    elif class_uid != place.sop_class_uid:
        yield f"{uid} is referenced as {class_uid} and is {place.sop_class_uid}"
