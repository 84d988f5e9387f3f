"""C-FIND SCP: what the node holds, so that a sender can see whether all of it arrived.

The ledger answers UIDs and counts; names, dates and descriptions are read from the headers of
stored instances, since the ledger knows no patient (PS3.4 C.4.1 and C.6).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import structlog
from pydicom import config
from pydicom.charset import python_encoding
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_node.data_sets import decode, encode
from dicom_node.errors import StudyUnusable
from dicom_node.headers import reading
from dicom_node.ledger.ledger import Ledger
from dicom_node.protocol.command import CommandField
from dicom_node.receive.query_keys import Key, Level, Query, read_query
from dicom_node.receive.query_search import STUDIES_MAX, Entity, ReadHeader, Search
from dicom_node.receive.refusal import RequestRefused, answering, check_command
from dicom_node.receive.service import DimseStatus, EventReport, ServiceReply, ServiceRequest

log = structlog.get_logger()

MATCHES_MAX = 1000
"""So many patients or studies answer one query; series and instances are bounded by theirs."""

PENDING_WITHOUT_SOME_KEYS = 0xFF01
"""Optional keys were neither matched nor returned (PS3.4 C.4.1.1.4)."""

_UTF_8 = "ISO_IR 192"
_UNDECODED = "\ufffd"


class QueryService:
    """A service for both FIND information models.

    Parameters
    ----------
    ae_title : str
        Our own, for (0008,0054) Retrieve AE Title.
    caught_up : callable
        Waits a short while until all that was acknowledged before is in the ledger; says if it is.
    read_header : callable
        Returns the header of a stored instance.
    """

    def __init__(
        self,
        ledger: Ledger,
        ae_title: str,
        caught_up: Callable[[], bool],
        read_header: ReadHeader,
        *,
        matches_max: int = MATCHES_MAX,
        studies_max: int = STUDIES_MAX,
    ) -> None:
        self._ledger = ledger
        self._ae_title = ae_title
        self._caught_up = caught_up
        self._read_header = read_header
        self._matches_max = matches_max
        self._studies_max = studies_max

    def __call__(self, request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        return answering(
            request,
            self._answer(request),
            unreadable=DimseStatus.UNABLE_TO_PROCESS,
            unavailable=DimseStatus.OUT_OF_RESOURCES,
        )

    def _answer(self, request: ServiceRequest) -> Iterator[ServiceReply]:
        check_command(request, CommandField.C_FIND)
        identifier = decode(request.data_set, request.transfer_syntax_uid)
        query = read_query(identifier, request.sop_class_uid)
        if not self._caught_up():
            raise _out_of_resources("instances are still being filed, ask again")
        pending = DimseStatus.PENDING
        status = PENDING_WITHOUT_SOME_KEYS if query.has_unsupported_keys else pending
        search = Search(self._ledger, self._read_header, self._ae_title, self._studies_max)
        count = 0
        for entity in search.entities(query):
            if request.cancelled():
                self._log(request, query, count, DimseStatus.CANCELLED)
                yield ServiceReply(DimseStatus.CANCELLED)
                return
            if not entity.matches(query):
                continue
            if count == self._matches_max and query.level <= Level.STUDY:
                raise _out_of_resources(f"more than {count} matches, narrow the query")
            count += 1
            yield ServiceReply(status, answer_of(entity, query, request.transfer_syntax_uid))
        if search.is_cut_off:
            raise _out_of_resources(f"only the newest {self._studies_max} studies were looked at")
        self._log(request, query, count, DimseStatus.SUCCESS)
        yield ServiceReply(DimseStatus.SUCCESS)

    def _log(self, request: ServiceRequest, query: Query, count: int, status: int) -> None:
        log.info(
            "query_answered",
            association_id=request.association_id,
            calling_ae_title=request.calling_ae_title,
            query_level=query.level.name,
            matches=count,
            status=f"0x{status:04X}",
        )


def _out_of_resources(why: str) -> RequestRefused:
    return RequestRefused(why, status=DimseStatus.OUT_OF_RESOURCES)


def answer_of(entity: Entity, query: Query, transfer_syntax_uid: str) -> bytes:
    """Return the encoded identifier of a match (PS3.4 C.4.1.1.3.2)."""
    asked = {**query.keys, "RetrieveAETitle": Key("RetrieveAETitle", "AE", ())}
    values = {keyword: entity.values(keyword) for keyword in asked}
    identifier = Dataset()
    identifier.QueryRetrieveLevel = query.level.name
    character_sets = _character_sets(values, query.character_sets, entity)
    if character_sets:
        identifier.SpecificCharacterSet = list(character_sets)
    for keyword, key in asked.items():
        identifier.add(_element(key, values[keyword]))
    try:
        return encode(identifier, transfer_syntax_uid)
    except StudyUnusable:  # something that was stored cannot be written: the rest still counts
        for keyword in asked.keys() - entity.known.keys():
            identifier.add(_element(asked[keyword], ()))
        return encode(identifier, transfer_syntax_uid)


def _element(key: Key, values: tuple[str, ...]) -> DataElement:
    """Return an element; empty if its values are none that its VR can hold."""
    tag = Tag(key.keyword)
    try:
        with reading(key.keyword):
            held = [int(value) for value in values] if key.vr == "US" else list(values)
            value = held[0] if len(held) == 1 else held or None
            return DataElement(tag, key.vr, value, validation_mode=config.IGNORE)
    except StudyUnusable:
        return DataElement(tag, key.vr, None)


def _character_sets(
    values: Mapping[str, tuple[str, ...]], requested: tuple[str, ...], entity: Entity
) -> tuple[str, ...]:
    """Return the (0008,0005) of an answer; none where ASCII will do.

    That of the request, if it can say all; else that of the stored instance, so that its names go
    out as they came in; else UTF-8.
    """
    text = "".join(value for several in values.values() for value in several)
    if text.isascii():
        return ()
    if len(requested) == 1 and _can_say(requested[0], text):
        return requested
    stored = entity.values("SpecificCharacterSet")
    known = all(name in python_encoding for name in stored)
    return stored if any(stored) and known and _UNDECODED not in text else (_UTF_8,)


def _can_say(character_set: str, text: str) -> bool:
    """Return whether a character set without code extensions has all characters of a text."""
    encoding = python_encoding.get(character_set)
    # these three Python would take for larger than they are
    if encoding is None or character_set in {"", "ISO_IR 6", "ISO_IR 13"}:
        return False
    if character_set.startswith("ISO 2022"):
        return False
    try:
        text.encode(encoding)
    except UnicodeError:
        return False
    return True
