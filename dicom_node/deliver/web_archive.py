"""A destination that speaks DICOMweb: STOW-RS, QIDO-RS and WADO-RS (PS3.18)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import pydicom

from dicom_node.deliver.archive import TakeAnswers, is_among
from dicom_node.deliver.content import content_digest, own_digest
from dicom_node.deliver.store_scu import Item
from dicom_node.deliver.stow import send
from dicom_node.errors import DeliveryError, PeerRefused, StudyUnusable
from dicom_node.headers import reading
from dicom_node.model import Result
from dicom_node.scu import qido
from dicom_node.scu.web import SOP_CLASS_NOT_SUPPORTED, WebAddress
from dicom_node.store.local import LocalStore

_FILE_META_AT = 132 + 12
"""Behind preamble, prefix and the element that holds the length of the rest (PS3.10 7.1)."""


class WebArchive:
    """The port `Archive` on the root of a server's DICOMweb services."""

    def __init__(self, address: WebAddress, store: LocalStore) -> None:
        self._address = address
        self._store = store

    def echo(self) -> None:
        """See `Archive`; a search that must be answered."""
        qido.echo(self._address)

    def store(self, results: Sequence[Result]) -> Iterator[DeliveryError | str]:
        """See `Archive`."""
        return send([Item.of(one, self._store) for one in results], self._address)

    def commit(self, transaction_uid: str, results: Sequence[Result], take: TakeAnswers) -> None:
        """See `Archive`.

        Raises
        ------
        PeerRefused
            Always: what PS3.18 has for storage commitment since 2023, no server speaks.
        """
        raise PeerRefused(
            f"{self._address.name} is spoken to by DICOMweb, without storage commitment",
            status=SOP_CLASS_NOT_SUPPORTED,
            hint="leave its proof to read-back",
        )

    def find(self, results: Sequence[Result]) -> frozenset[str]:
        """See `Archive`; one search a series."""
        known: dict[tuple[str, str], dict[str, str]] = {}
        for one in results:
            series = one.study_instance_uid, one.series_instance_uid
            if series not in known:
                known[series] = qido.instances_in(self._address, *series)
        return frozenset(
            one.sop_instance_uid
            for one in results
            if is_among(one, known[one.study_instance_uid, one.series_instance_uid])
        )

    def content(self, result: Result) -> str | None:
        """See `Archive`."""
        file = qido.retrieve(
            self._address,
            result.study_instance_uid,
            result.series_instance_uid,
            result.sop_instance_uid,
        )
        if file is None:
            return None
        try:
            with reading("what came back"):
                meta = pydicom.dcmread(BytesIO(file), stop_before_pixels=True).file_meta
                begins = _FILE_META_AT + int(meta.FileMetaInformationGroupLength)
                return content_digest(file[begins:], str(meta.TransferSyntaxUID))
        except StudyUnusable:
            return "unreadable"

    def own_content(self, result: Result) -> str:
        """See `Archive`; ResultLost if our file cannot be read."""
        return own_digest(self._store.path(result.path), result.transfer_syntax_uid)
