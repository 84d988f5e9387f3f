"""A destination that speaks DIMSE: C-STORE, storage commitment, C-FIND and C-GET."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_node.config.settings import Config
from dicom_node.deliver.archive import Archive, TakeAnswers, is_among
from dicom_node.deliver.content import content_digest, own_digest
from dicom_node.deliver.store_scu import SUCCESS, Item, send
from dicom_node.deliver.web_archive import WebArchive
from dicom_node.errors import DeliveryError, StudyUnusable
from dicom_node.model import ReferencedInstance, Result
from dicom_node.scu.address import Address
from dicom_node.scu.commitment_request import request_commitment
from dicom_node.scu.contents import Contents
from dicom_node.scu.find import Level, Query
from dicom_node.scu.found import text_in
from dicom_node.scu.peers import address_of, web_address_of
from dicom_node.scu.retrieve import ReceivedInstance, get
from dicom_node.store.local import LocalStore

_VERIFICATION = "1.2.840.10008.1.1"
_PROPOSED = [
    ("1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.1.2"),  # Secondary Capture
    ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.1.2"),  # CT
]
"""Beside C-ECHO: what every archive takes."""

STAY_S = 2.0
"""So long an association stays open for the result of its request for storage commitment."""


class DicomArchive:
    """The port `Archive` on an address."""

    def __init__(self, address: Address, store: LocalStore, stay_s: float = STAY_S) -> None:
        self._address = address
        self._store = store
        self._stay_s = stay_s

    def echo(self) -> None:
        """See `Archive`; one that accepts an association and no C-ECHO is there, too."""
        with self._address.associate(_PROPOSED) as requestor:
            if (
                any(uid == _VERIFICATION for uid, _ in requestor.accepted)
                and requestor.echo() != SUCCESS
            ):
                raise self._address.unreachable()

    def store(self, results: Sequence[Result]) -> Iterator[DeliveryError | str]:
        """See `Archive`."""
        return send([Item.of(one, self._store) for one in results], self._address)

    def commit(self, transaction_uid: str, results: Sequence[Result], take: TakeAnswers) -> None:
        """See `Archive`; a result of another transaction is not ours to take here."""
        references = [
            ReferencedInstance(one.sop_class_uid, one.sop_instance_uid) for one in results
        ]
        request_commitment(
            self._address,
            transaction_uid,
            references,
            lambda said, answers: take(answers) if said == transaction_uid else None,
            self._stay_s,
        )

    def find(self, results: Sequence[Result]) -> frozenset[str]:
        """See `Archive`; one C-FIND a series, by a list of UIDs (PS3.4 C.2.2.2.2)."""
        by_series: dict[tuple[str, str], list[Result]] = {}
        for one in results:
            by_series.setdefault((one.study_instance_uid, one.series_instance_uid), []).append(one)
        found = set()
        with Query(self._address) as query:
            for (study_instance_uid, series_instance_uid), wanted in by_series.items():
                keys = {
                    "StudyInstanceUID": study_instance_uid,
                    "SeriesInstanceUID": series_instance_uid,
                    "SOPInstanceUID": [one.sop_instance_uid for one in wanted],
                    "SOPClassUID": "",
                }
                classes = {
                    text_in(match, "SOPInstanceUID"): text_in(match, "SOPClassUID")
                    for match in query.find(Level.IMAGE, keys).matches
                }
                found |= {one.sop_instance_uid for one in wanted if is_among(one, classes)}
        return frozenset(found)

    def content(self, result: Result) -> str | None:
        """See `Archive`; by C-GET, since a C-MOVE would have it come in like any new instance."""
        received: list[ReceivedInstance] = []

        def take(instance: ReceivedInstance) -> int:
            received.append(instance)
            return SUCCESS

        get(
            self._address,
            result.study_instance_uid,
            take,
            series_instance_uid=result.series_instance_uid,
            sop_instance_uid=result.sop_instance_uid,
            contents=Contents((result.sop_class_uid,), (result.transfer_syntax_uid,)),
        )
        for instance in received:
            if instance.sop_instance_uid == result.sop_instance_uid:
                try:
                    return content_digest(instance.data_set, instance.transfer_syntax_uid)
                except StudyUnusable:
                    return "unreadable"
        return None

    def own_content(self, result: Result) -> str:
        """See `Archive`; ResultLost if our file cannot be read."""
        return own_digest(self._store.path(result.path), result.transfer_syntax_uid)


def dicom_archives(config: Config, store: LocalStore, stay_s: float = STAY_S) -> dict[str, Archive]:
    """Return the destinations of a configuration, by name."""
    return {
        name: DicomArchive(address_of(peer, config), store, stay_s)
        if peer.stow_url is None
        else WebArchive(web_address_of(peer, config), store)
        for name, peer in config.destinations.items()
    }
