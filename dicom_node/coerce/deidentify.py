"""The Basic Application Confidentiality Profile on one data set (PS3.15 E.1.1).

The data set is read once, from the outside in, and a new one is made: what stays is shared with
the original as it was read, undecoded, so neither pixels nor tables are copied. What is no
attribute of the standard's dictionary goes: nobody can say what it holds.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta

from pydicom.datadict import dictionary_has_tag, keyword_for_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag

from dicom_node.coerce.dummies import dummy, removed_code, removed_content
from dicom_node.coerce.elements import (
    Element,
    holds_nothing,
    is_empty,
    is_mislabelled,
    like,
    texts_of,
    vr_of,
)
from dicom_node.coerce.identity import IdentityWords, patient_of
from dicom_node.coerce.items import (
    graphics_without_text,
    public_codes_only,
    tells_characteristic,
)
from dicom_node.coerce.profile import Option
from dicom_node.coerce.pseudonyms import Pseudonyms
from dicom_node.coerce.safe_private import SAFE_PRIVATE
from dicom_node.coerce.table import Action, basic_actions, table_for
from dicom_node.coerce.vocabulary import cleaned

_SPECIFIC_CHARACTER_SET = 0x00080005
_ACCESSION_NUMBER = 0x00080050
_PATIENT_NAME = 0x00100010
_PATIENT_ID = 0x00100020
_PSEUDONYMOUS = frozenset({_ACCESSION_NUMBER, _PATIENT_NAME, _PATIENT_ID})
_REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE = 0x00081111
_REFERENCED_STUDY_SEQUENCE = 0x00081110
_PATIENT_AGE = 0x00101010
_PERSON_IDENTIFICATION_CODE_SEQUENCE = 0x00401101
_CONTENT_SEQUENCE = 0x0040A730
_GRAPHIC_ANNOTATION_SEQUENCE = 0x00700001

_DECLARED = frozenset({0x00120062, 0x00120063, 0x00120064, 0x00280303})
"""What an earlier de-identification said of itself; ours says it anew."""

_TEXT_VRS = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_ESCAPE = b"\x1b"
"""After it, ASCII may stand for any other script (PS3.5 6.1.2.5)."""
_OLDEST = 90
"""Years; few are older, so the age of those who are is told as this (as in 45 CFR 164.514)."""

_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.88."
_STANDARD_UIDS = "1.2.840.10008."
_DEFINITIONS = ("ClassUID", "TransferSyntaxUID", "MappingResourceUID", "ContextUID")
_DEFINITION_KEYWORDS = frozenset(
    {
        "CodingSchemeUID",
        "ContextGroupExtensionCreatorUID",
        "SOPClassesInStudy",
        "SOPClassesSupported",
        "PertinentSOPClassesInStudy",
        "PertinentSOPClassesInSeries",
    }
)
_OVERLAY_TEXTS = frozenset({0x0022, 0x1500, 0x4000})


class Deidentifier:
    """De-identifies one data set; what it replaced, and how often it did what, stay with it.

    Parameters
    ----------
    options : frozenset of Option
        Beside the basic profile.
    pseudonyms : Pseudonyms
        Of the profile.
    original : Dataset
        The data set; it is not changed.
    """

    def __init__(
        self, options: frozenset[Option], pseudonyms: Pseudonyms, original: Dataset
    ) -> None:
        self.uids: dict[str, str] = {}
        """By original, what it was replaced by."""
        self.dates: dict[str, str] = {}
        """Likewise, as DA."""
        self.counts: Counter[str] = Counter()
        """How many elements were removed, emptied, ..., at every level."""
        self._options = options
        self._table = table_for(options)
        self._pseudonyms = pseudonyms
        self._original = original
        self._words = IdentityWords(original)
        self._patient = patient_of(original)
        self._shift = timedelta(days=pseudonyms.days(self._patient))

    def run(self) -> Dataset:
        """Return the de-identified data set, without what says that it is one."""
        return self._dataset(self._original)

    def uid(self, original: str) -> str:
        """Return the UID that stands for another; those of the standard stand for themselves."""
        if not original or original.startswith(_STANDARD_UIDS):
            return original
        replaced = self.uids.get(original)
        if replaced is None:
            replaced = self.uids[original] = self._pseudonyms.uid(original)
        return replaced

    def _dataset(self, original: Dataset) -> Dataset:
        new: dict[BaseTag, Element] = {}
        for tag in sorted(original.keys()):
            if tag.group < 0x0008 or tag.element == 0:  # command, File Meta; retired group lengths
                continue
            if tag.is_private or tag in _DECLARED:
                continue
            element = self._element(original, tag)
            if element is not None:
                new[tag] = element
        self._keep_safe_private(original, new)
        return like(original, new)

    def _element(self, original: Dataset, tag: BaseTag) -> Element | None:
        """Return what stands for an element of the standard; None if nothing does."""
        if tag.group & 0xFF01 in (0x5000, 0x6000):
            return self._graphics(original, tag)
        if tag == _SPECIFIC_CHARACTER_SET:
            return original.get_item(tag)
        vr = vr_of(original, tag)
        action = self._table.action(tag, vr)
        if not dictionary_has_tag(tag) or is_mislabelled(vr, tag):
            action = Action.REMOVE
        if action in (Action.KEEP, Action.MAP_UID) and vr == "UI" and _is_definition(tag):
            return original.get_item(tag)
        return self._act(action, original, tag, vr)

    # ------------------------------------------------------------ one action each

    def _act(self, action: Action, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        match action:
            case Action.REMOVE:
                return self._remove(original, tag, vr)
            case Action.EMPTY:
                return self._empty(original, tag, vr)
            case Action.DUMMY:
                return self._dummy(original, tag, vr)
            case Action.KEEP:
                return self._keep(original, tag, vr)
            case Action.CLEAN:
                return self._clean(original, tag, vr)
            case Action.SHIFT:
                return self._move(original, tag, vr)
            case Action.MAP_UID:
                return self._map_uid(original, tag, vr)

    def _remove(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        self.counts["removed"] += 1
        return None

    def _empty(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        if is_empty(original, tag):
            return original.get_item(tag)
        if tag in _PSEUDONYMOUS:
            return self._pseudonym(original, tag, vr)
        if self._is_type_3(original, tag):
            return self._remove(original, tag, vr)
        self.counts["emptied"] += 1
        return DataElement(tag, vr, Sequence() if vr == "SQ" else None)

    def _dummy(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        if is_empty(original, tag):
            return original.get_item(tag)
        if vr == "UI":
            return self._map_uid(original, tag, vr)
        if tag in _PSEUDONYMOUS:
            return self._pseudonym(original, tag, vr)
        self.counts["replaced by a dummy"] += 1
        if tag == _CONTENT_SEQUENCE:
            return DataElement(tag, vr, Sequence([removed_content()]))
        if tag == _PERSON_IDENTIFICATION_CODE_SEQUENCE:
            return DataElement(tag, vr, Sequence([removed_code()]))
        if vr == "SQ":
            return self._items(original, tag)
        return DataElement(tag, vr, dummy(vr))

    def _is_type_3(self, original: Dataset, tag: BaseTag) -> bool:
        """Return whether a sequence may be missing here, and must not be empty.

        It is Type 2 in a document's requests, which have a filler's number too (PS3.3 C.17.2).
        """
        if tag == _REFERENCED_STUDY_SEQUENCE:
            return "FillerOrderNumberImagingServiceRequest" not in original
        is_document = str(original.get("SOPClassUID") or "").startswith(_DOCUMENTS)
        return tag == _REFERENCED_PERFORMED_PROCEDURE_STEP_SEQUENCE and not is_document

    def _pseudonym(self, original: Dataset, tag: BaseTag, vr: str) -> Element:
        self.counts["replaced by a pseudonym"] += 1
        if tag == _ACCESSION_NUMBER:
            number = str(original[tag].value).strip()
            return DataElement(tag, vr, self._pseudonyms.text("AccessionNumber", number))
        return DataElement(tag, vr, self._pseudonyms.text("PatientID", patient_of(original)))

    def _keep(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        if tag == _CONTENT_SEQUENCE:
            return self._items(original, tag, self._content_item)
        if vr == "SQ":
            return self._items(original, tag)
        if vr in _TEXT_VRS:
            raw = original.get_item(tag)
            if isinstance(raw.value, bytes) and raw.value.isascii() and _ESCAPE not in raw.value:
                # most are, and need no decoding
                text = raw.value.decode("ascii")
                if self._words.masked(text) == text:
                    return raw
            return self._changed(original, tag, self._words.masked, "masked")
        if tag == _PATIENT_AGE:
            return self._changed(original, tag, _not_the_oldest, "ages limited")
        return original.get_item(tag)

    def _map_uid(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        return self._changed(original, tag, self.uid, "UIDs replaced")

    def _move(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        if vr == "TM":
            return original.get_item(tag)
        move = self._moved_date if vr == "DA" else self._moved_datetime
        try:
            return self._changed(original, tag, move, "dates moved")
        except (ValueError, OverflowError):  # no date, or one that nobody can move
            return self._by_the_basic_profile(original, tag, vr)

    def _clean(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        element: Element | None = None
        if tag == _GRAPHIC_ANNOTATION_SEQUENCE:
            element = self._items(original, tag, graphics_without_text)
        elif vr == "SQ":
            element = self._items(original, tag, public_codes_only)
        elif vr in _TEXT_VRS:
            text = self._changed(original, tag, lambda value: cleaned(self._words.masked(value)))
            element = None if holds_nothing(text) else text
        if element is None or holds_nothing(element):
            return self._by_the_basic_profile(original, tag, vr)
        self.counts["cleaned"] += 1
        return element

    def _by_the_basic_profile(self, original: Dataset, tag: BaseTag, vr: str) -> Element | None:
        action = basic_actions().get(tag, Action.DUMMY)
        return self._act(action, original, tag, vr)

    # ------------------------------------------------------------ values

    def _changed(
        self, original: Dataset, tag: BaseTag, change: Callable[[str], str], what: str = ""
    ) -> Element:
        """Return an element with each value changed; the element itself if none changes."""
        element = original[tag]
        value = element.value
        if not value:
            return element
        values = texts_of(value)
        changed = [change(one) for one in values]
        if changed == values:
            return element
        if what:
            self.counts[what] += 1
        return DataElement(tag, element.VR, changed if len(changed) > 1 else changed[0])

    def _moved_date(self, text: str) -> str:
        date = text.strip().replace(".", "")  # as before 1993
        if not date:
            return text
        moved = (datetime.strptime(date, "%Y%m%d") + self._shift).strftime("%Y%m%d")  # noqa: DTZ007
        moved = moved.rjust(8, "0")
        self.dates[date] = moved
        return moved

    def _moved_datetime(self, text: str) -> str:
        return self._moved_date(text[:8]) + text[8:]

    def _items(
        self,
        original: Dataset,
        tag: BaseTag,
        keep: Callable[[Dataset], Dataset | None] = lambda item: item,
    ) -> Element | None:
        """Return a sequence whose items went on by the table."""
        items = original[tag].value
        if not isinstance(items, Sequence):
            return self._remove(original, tag, "UN")
        kept = [one for one in (keep(item) for item in items) if one is not None]
        return DataElement(tag, "SQ", Sequence([self._dataset(item) for item in kept]))

    def _content_item(self, item: Dataset) -> Dataset | None:
        retained = Option.RETAIN_PATIENT_CHARACTERISTICS in self._options
        return item if retained or not tells_characteristic(item) else None

    # ------------------------------------------------------------ groups

    def _graphics(self, original: Dataset, tag: BaseTag) -> Element | None:
        """Keep overlays that outline regions, if graphics are cleaned; nothing else, no curve."""
        overlay_type = original.get_item(BaseTag(tag.group << 16 | 0x0040))
        if (
            Option.CLEAN_GRAPHICS in self._options
            and tag.group & 0xFF00 == 0x6000
            and tag.element not in _OVERLAY_TEXTS
            and overlay_type is not None
            and str(original[overlay_type.tag].value) == "R"
        ):
            return original.get_item(tag)
        self.counts["removed"] += 1
        return None

    def _keep_safe_private(self, original: Dataset, new: dict[BaseTag, Element]) -> None:
        for tag in sorted(original.keys()):
            if not tag.is_private or tag.is_private_creator:
                continue
            creator_tag = BaseTag(tag.group << 16 | tag.element >> 8)
            if Option.RETAIN_SAFE_PRIVATE in self._options and creator_tag in original:
                creator = str(original[creator_tag].value).strip()
                if (tag.group, creator, tag.element & 0xFF) in SAFE_PRIVATE:
                    new[creator_tag] = original.get_item(creator_tag)
                    new[tag] = original.get_item(tag)
                    continue
            self.counts["private removed"] += 1


def _is_definition(tag: BaseTag) -> bool:
    """Return whether a UID says what kind of thing it is, not which one."""
    keyword = keyword_for_tag(tag)
    if tag in basic_actions():
        return False
    return keyword.endswith(_DEFINITIONS) or keyword in _DEFINITION_KEYWORDS


def _not_the_oldest(age: str) -> str:
    years = age.strip().removesuffix("Y")
    return f"{_OLDEST:03}Y" if age.strip().endswith("Y") and int(years or 0) > _OLDEST else age
