"""C-FIND as SCU, in the Study Root information model (PS3.4 C.4.1 and C.6.2)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType, TracebackType
from typing import Self

from pydicom import config
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pynetdicom.dimse_primitives import C_FIND

from dicom_node.data_sets import decode
from dicom_node.errors import DeliveryError, InvariantBroken, StudyUnusable
from dicom_node.headers import attributes_of, reading
from dicom_node.model import Attributes
from dicom_node.scu.address import Address
from dicom_node.scu.operation import SUCCESS, Operation, contexts_of, never

STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"

MATCHES_MAX = 1000
"""More are not waited for, unless the caller says so."""

_UTF_8 = "ISO_IR 192"
_PENDING_WITHOUT_SOME_KEYS = 0xFF01

Keys = Mapping[str, str | Sequence[str]]
"""What is asked for, by keyword; an empty value matches everything and is returned."""


class Level(StrEnum):
    """(0008,0052) Query/Retrieve Level (PS3.4 C.6.2.1)."""

    STUDY = "STUDY"
    SERIES = "SERIES"
    IMAGE = "IMAGE"


@dataclass(frozen=True)
class Found:
    """What a C-FIND found. The matches may name a patient, and are not in its `repr`."""

    matches: tuple[Attributes, ...] = field(repr=False)
    """Each with the values of what was asked for, decoded by the character set that it names."""
    is_complete: bool
    """False if there were more than were wanted, or the caller cancelled."""
    lacks_keys: bool
    """Whether the peer does not know some of the keys, so that they narrowed nothing (0xFF01)."""


class Query:
    """An association for C-FIND; leaving the `with` block releases it.

    Raises
    ------
    PeerUnreachable
        If there is no association.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._requestor = address.associate(contexts_of(STUDY_ROOT_FIND))

    def find(
        self,
        level: Level,
        keys: Keys,
        *,
        matches_max: int = MATCHES_MAX,
        cancelled: Callable[[], bool] = never,
    ) -> Found:
        """Ask the peer what it holds.

        Parameters
        ----------
        level : Level
            Of what is looked for.
        keys : mapping of str to str, or to several
            By keyword; among them the unique keys of the levels above (PS3.4 C.4.1.2.1).
        matches_max : int
            The match after so many makes us send C-CANCEL.
        cancelled : callable
            Says whether nobody waits for the answer any more.

        Raises
        ------
        PeerUnreachable
            If the association broke, or the peer was silent for too long.
        PeerRefused
            If it answered with a failure, or offers no C-FIND in Study Root.
        DeliveryError
            If an answer of its cannot be read.
        """
        operation = Operation(
            self._requestor,
            self._address,
            C_FIND(),
            STUDY_ROOT_FIND,
            _identifier(level, keys),
            cancelled=cancelled,
        )
        matches: list[Attributes] = []
        lacks_keys = False
        for answer in operation.answers():
            if not answer.is_pending:
                if answer.status != SUCCESS and not operation.is_cancelled:
                    raise self._address.refused("C-FIND", answer.status)
            elif not operation.is_cancelled:
                lacks_keys |= answer.status == _PENDING_WITHOUT_SOME_KEYS
                if len(matches) == matches_max:
                    operation.cancel()
                else:
                    matches.append(self._match(answer.identifier, operation.transfer_syntax_uid))
        return Found(tuple(matches), not operation.is_cancelled, lacks_keys)

    def _match(self, identifier: bytes | None, transfer_syntax_uid: str) -> Attributes:
        try:
            with reading("a match"):
                match = decode(identifier or b"", transfer_syntax_uid)
                match.decode()
                return MappingProxyType(attributes_of([match]))
        except StudyUnusable as error:
            raise DeliveryError(
                f"{self._address.called_ae_title} answers a C-FIND with what cannot be read",
                hint="look into its log; its database may hold a broken header",
            ) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._requestor.__exit__(kind, error, trace)


def find(
    address: Address,
    level: Level,
    keys: Keys,
    *,
    matches_max: int = MATCHES_MAX,
    cancelled: Callable[[], bool] = never,
) -> Found:
    """Ask a peer what it holds, over an association for that alone; see `Query.find`."""
    with Query(address) as query:
        return query.find(level, keys, matches_max=matches_max, cancelled=cancelled)


def _identifier(level: Level, keys: Keys) -> Dataset:
    identifier = Dataset()
    identifier.SpecificCharacterSet = _UTF_8  # in which we ask, and wish to be answered
    identifier.QueryRetrieveLevel = level.value
    for keyword, values in keys.items():
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise InvariantBroken(f"{keyword} is the keyword of no attribute")
        value = values if isinstance(values, str) else list(values)
        identifier.add(DataElement(tag, dictionary_VR(tag), value, validation_mode=config.IGNORE))
    return identifier
