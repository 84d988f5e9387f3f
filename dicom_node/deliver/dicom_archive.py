"""A destination that speaks DIMSE: C-STORE, storage commitment, C-FIND and C-GET."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dicom_node.claims import Sent
from dicom_node.config.settings import Config
from dicom_node.deliver.archive import Archive, TakeAnswers, is_among
from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import SUCCESS, Item, send, send_originals
from dicom_node.deliver.web_archive import WebArchive
from dicom_node.errors import DeliveryError
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

_UIDS_IN_A_QUERY = 64
"""Some archives cannot read long lists."""

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

    def forward(self, originals: Sequence[Original]) -> Iterator[DeliveryError | str]:
        """See `Archive`."""
        return send_originals(originals, self._address)

    def commit(self, transaction_uid: str, sent: Sequence[Sent], take: TakeAnswers) -> None:
        """See `Archive`; a result of another transaction is not ours to take here."""
        references = [ReferencedInstance(one.sop_class_uid, one.sop_instance_uid) for one in sent]
        request_commitment(
            self._address,
            transaction_uid,
            references,
            lambda said, answers: take(answers) if said == transaction_uid else None,
            self._stay_s,
        )

    def find(self, sent: Sequence[Sent]) -> frozenset[str]:
        """See `Archive`; by lists of UIDs, a C-FIND for some of a series (PS3.4 C.2.2.2.2)."""
        by_series: dict[tuple[str, str], list[Sent]] = {}
        for one in sent:
            by_series.setdefault((one.study_instance_uid, one.series_instance_uid), []).append(one)
        found: set[str] = set()
        with Query(self._address) as query:
            for (study_instance_uid, series_instance_uid), wanted in by_series.items():
                for begin in range(0, len(wanted), _UIDS_IN_A_QUERY):
                    some = wanted[begin : begin + _UIDS_IN_A_QUERY]
                    found |= _found(query, study_instance_uid, series_instance_uid, some)
        return frozenset(found)

    def fetch(self, sent: Sent) -> ReceivedInstance | None:
        """See `Archive`; by C-GET, since a C-MOVE would have it come in like any new instance."""
        received: list[ReceivedInstance] = []

        def take(instance: ReceivedInstance) -> int:
            received.append(instance)
            return SUCCESS

        get(
            self._address,
            sent.study_instance_uid,
            take,
            series_instance_uid=sent.series_instance_uid,
            sop_instance_uid=sent.sop_instance_uid,
            contents=Contents((sent.sop_class_uid,), (sent.transfer_syntax_uid,)),
        )
        same = (one for one in received if one.sop_instance_uid == sent.sop_instance_uid)
        return next(same, None)


def _found(
    query: Query, study_instance_uid: str, series_instance_uid: str, wanted: Sequence[Sent]
) -> set[str]:
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
    return {one.sop_instance_uid for one in wanted if is_among(one, classes)}


def dicom_archives(config: Config, store: LocalStore, stay_s: float = STAY_S) -> dict[str, Archive]:
    """Return the destinations of a configuration, by name."""
    return {
        name: DicomArchive(address_of(peer, config), store, stay_s)
        if peer.stow_url is None
        else WebArchive(web_address_of(peer, config), store)
        for name, peer in config.destinations.items()
    }
