"""Files the instances of a C-GET as the receiver does those of a C-STORE.

They come on an association that we opened, so there is no receiver and no receive log: each becomes
a file of its own, durable before its row and its answer.
"""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Self

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.data_sets import decode, text_of
from dicom_node.errors import InstanceRefused, StoreFull, StudyUnusable
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.scu.address import Address
from dicom_node.scu.operation import SUCCESS
from dicom_node.scu.retrieve import ReceivedInstance
from dicom_node.store.file_meta import file_meta_of
from dicom_node.store.large import part10_path
from dicom_node.store.local import LocalStore, study_folder
from dicom_node.store.record import digest_of
from dicom_node.uid import is_uid

_DATA_SET_DOES_NOT_MATCH = 0xA900
_CANNOT_UNDERSTAND = 0xC000


class Filing:
    """One C-GET: an association in the ledger for as long as the `with` block lasts.

    Parameters
    ----------
    config : Config
        `receive` says what is too large, how much has to stay free, and what becomes of other
        bytes under a known UID.
    address : Address
        Of the peer; the instances are its own, as if it had sent them.
    study_instance_uid : str
        The study that was asked for.
    """

    def __init__(
        self,
        config: Config,
        ledger: Ledger,
        store: LocalStore,
        clock: Clock,
        address: Address,
        study_instance_uid: str,
    ) -> None:
        self._settings = config.receive
        self._ledger = ledger
        self._store = store
        self._clock = clock
        self._address = address
        self._study_instance_uid = study_instance_uid
        self._association_id = uuid.uuid4().hex

    def __enter__(self) -> Self:
        self._ledger.associations.opened(
            self._association_id,
            self._address.called_ae_title,
            self._address.calling_ae_title,
            self._address.host,
            self._clock(),
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end = AssociationEnd.RELEASED if error is None else AssociationEnd.ABORTED
        self._ledger.associations.closed(self._association_id, end, self._clock())

    def take(self, received: ReceivedInstance) -> int:
        """Keep an instance; return the status that answers its C-STORE (PS3.4 B.2.3).

        Raises
        ------
        InstanceRefused
            If its data set is not what was announced, or not of the study that was asked for.
        StoreFull
            If there is no room for it.
        StorageError
            If the disk or the ledger fails.
        """
        series_instance_uid = self._series_of(received)
        size_bytes = len(received.data_set)
        if size_bytes > self._settings.instance_bytes_max:
            raise StoreFull("it is larger than receive.instance_bytes_max")
        if self._store.free_bytes() < self._settings.free_bytes_min + size_bytes:
            raise StoreFull("less than receive.free_bytes_min would be free")
        head = file_meta_of(
            received.sop_class_uid,
            received.sop_instance_uid,
            received.transfer_syntax_uid,
            self._address.called_ae_title,
        )
        digest = digest_of(received.data_set).hex()
        folder = study_folder("instances", self._study_instance_uid)
        path = part10_path(folder, series_instance_uid, received.sop_instance_uid, digest)
        saved_bytes = self._store.save(path, [head, received.data_set])
        instance = Instance(
            sop_instance_uid=received.sop_instance_uid,
            sop_class_uid=received.sop_class_uid,
            study_instance_uid=self._study_instance_uid,
            series_instance_uid=series_instance_uid,
            transfer_syntax_uid=received.transfer_syntax_uid,
            path=path,
            size_bytes=saved_bytes,
            digest=digest,
            received_at=self._clock(),
            association_id=self._association_id,
            calling_ae_title=self._address.called_ae_title,
        )
        self._ledger.studies.instance_stored(instance, self._settings.same_uid_other_bytes)
        return SUCCESS

    def _series_of(self, received: ReceivedInstance) -> str:
        """Return the Series Instance UID; what cannot be filed under its UIDs is refused."""
        try:
            data_set = decode(received.data_set, received.transfer_syntax_uid)
            study, series, sop_class, sop_instance = (
                text_of(data_set, keyword) or ""
                for keyword in (
                    "StudyInstanceUID",
                    "SeriesInstanceUID",
                    "SOPClassUID",
                    "SOPInstanceUID",
                )
            )
        except StudyUnusable as error:
            raise InstanceRefused(
                error.message, status=_CANNOT_UNDERSTAND, hint=error.hint
            ) from error
        if not is_uid(series) or not is_uid(sop_instance):
            raise InstanceRefused("the data set lacks its UIDs", status=_CANNOT_UNDERSTAND)
        announced = (self._study_instance_uid, received.sop_class_uid, received.sop_instance_uid)
        if (study, sop_class, sop_instance) != announced:
            raise InstanceRefused(
                "the data set is not the instance that was announced",
                status=_DATA_SET_DOES_NOT_MATCH,
            )
        return series
