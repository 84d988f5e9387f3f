"""A destination that speaks DICOMweb: STOW-RS, QIDO-RS and WADO-RS (PS3.18)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from io import BytesIO

import pydicom

from dicom_node.claims import Sent
from dicom_node.deliver.archive import TakeAnswers, is_among
from dicom_node.deliver.originals import Original
from dicom_node.deliver.store_scu import Item
from dicom_node.deliver.stow import send, send_originals
from dicom_node.errors import DeliveryError, PeerRefused, StudyUnusable
from dicom_node.headers import reading
from dicom_node.model import Result
from dicom_node.scu import qido
from dicom_node.scu.retrieve import ReceivedInstance
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

    def forward(self, originals: Sequence[Original]) -> Iterator[DeliveryError | str]:
        """See `Archive`."""
        return send_originals(originals, self._address)

    def commit(self, transaction_uid: str, sent: Sequence[Sent], take: TakeAnswers) -> None:
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

    def find(self, sent: Sequence[Sent]) -> frozenset[str]:
        """See `Archive`; one search a series."""
        known: dict[tuple[str, str], dict[str, str]] = {}
        for one in sent:
            series = one.study_instance_uid, one.series_instance_uid
            if series not in known:
                known[series] = qido.instances_in(self._address, *series)
        return frozenset(
            one.sop_instance_uid
            for one in sent
            if is_among(one, known[one.study_instance_uid, one.series_instance_uid])
        )

    def fetch(self, sent: Sent) -> ReceivedInstance | None:
        """See `Archive`."""
        file = qido.retrieve(
            self._address,
            sent.study_instance_uid,
            sent.series_instance_uid,
            sent.sop_instance_uid,
        )
        if file is None:
            return None
        try:
            with reading("what came back"):
                meta = pydicom.dcmread(BytesIO(file), stop_before_pixels=True).file_meta
                begins = _FILE_META_AT + int(meta.FileMetaInformationGroupLength)
                syntax = str(meta.TransferSyntaxUID)
        except StudyUnusable:
            begins, syntax = 0, ""  # no data set: it compares as one that was changed
        return ReceivedInstance(sent.sop_class_uid, sent.sop_instance_uid, syntax, file[begins:])
