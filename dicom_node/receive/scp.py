"""The DICOM door: pynetdicom's handlers for C-STORE and C-ECHO."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import structlog
from pydicom.dataset import Dataset
from pynetdicom import AE, evt

from dicom_node.clock import Checkpoint, Clock, pass_checkpoint
from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError, DicomNodeError, InstanceRefused, StoreFull
from dicom_node.ledger.associations import AssociationEnd
from dicom_node.ledger.ledger import Ledger
from dicom_node.receive.contexts import supported_contexts, verification_context
from dicom_node.receive.policy import Status, refusal_of_association
from dicom_node.receive.stream import (
    IMPLEMENTATION_CLASS_UID,
    IMPLEMENTATION_VERSION_NAME,
    Arriving,
    InstanceKeeper,
)

log = structlog.get_logger()

_NEGOTIATION_TIMEOUT_S = 30.0


class Receiver:
    """A C-STORE and C-ECHO SCP.

    Parameters
    ----------
    config : Config
    keeper : InstanceKeeper
        Where instances go.
    ledger : Ledger
        Where associations and refusals are noted.
    clock : Clock
    checkpoint : Checkpoint
    on_association_end : callable
        Told after the end of an association is in the ledger.
    """

    def __init__(
        self,
        config: Config,
        keeper: InstanceKeeper,
        ledger: Ledger,
        clock: Clock,
        checkpoint: Checkpoint = pass_checkpoint,
        on_association_end: Callable[[], None] = lambda: None,
    ) -> None:
        self._keeper = keeper
        self._on_association_end = on_association_end
        self._ledger = ledger
        self._clock = clock
        self._checkpoint = checkpoint
        self._settings = config.receive
        admitted = {peer.ae_title for peer in config.peers.values() if peer.may_send}
        self._admitted = None if self._settings.admit_unknown_calling_ae_titles else admitted
        self._our_title = config.node.ae_title if self._settings.require_called_ae_title else None
        self._ids: dict[Any, str] = {}
        self._ae = self._application_entity(config.node.ae_title)
        self._server: Any = None

    def start(self) -> int:
        """Listen; return the port.

        Raises
        ------
        ConfigError
            If the address cannot be listened on.
        """
        handlers = [
            (evt.EVT_REQUESTED, self._requested),
            (evt.EVT_ACCEPTED, self._accepted),
            (evt.EVT_REJECTED, self._rejected),
            (evt.EVT_RELEASED, self._ended, [AssociationEnd.RELEASED]),
            (evt.EVT_ABORTED, self._ended, [AssociationEnd.ABORTED]),
            (evt.EVT_CONN_CLOSE, self._ended, [AssociationEnd.LOST]),
            (evt.EVT_C_STORE, self._store),
        ]
        address = (self._settings.host, self._settings.port)
        try:
            self._server = self._ae.start_server(address, block=False, evt_handlers=handlers)
        except OSError as error:
            raise ConfigError(
                f"cannot listen on {address[0]} port {address[1]}: {error.strerror}",
                hint="end the program that has the port, or change receive.port",
            ) from error
        port: int = self._server.server_address[1]
        return port

    def stop(self) -> None:
        """Abort what is open and stop listening."""
        if self._server is not None:
            self._server.shutdown()
        self._ae.shutdown()

    # ------------------------------------------------------------ associations

    def _requested(self, event: Any) -> None:
        """Support what the requestor proposes; pynetdicom negotiates after this returns."""
        proposed = event.assoc.requestor.primitive.presentation_context_definition_list
        event.assoc.acceptor.supported_contexts = supported_contexts(
            proposed, self._settings.extra_sop_classes
        )

    def _accepted(self, event: Any) -> None:
        requestor = event.assoc.requestor
        association_id = uuid.uuid4().hex
        self._ids[event.assoc] = association_id
        self._ledger.associations.opened(
            association_id,
            requestor.ae_title,
            event.assoc.acceptor.ae_title,
            requestor.address,
            self._clock(),
        )
        log.info(
            "association_accepted",
            association_id=association_id,
            calling_ae_title=requestor.ae_title,
            address=requestor.address,
        )

    def _rejected(self, event: Any) -> None:
        requestor = event.assoc.requestor
        called = str(requestor.primitive.called_ae_title).strip()
        reason = refusal_of_association(requestor.ae_title, called, self._admitted, self._our_title)
        reason = reason or "too many associations are open (receive.associations_max)"
        self._ledger.events.record(
            self._clock(), ("association", requestor.ae_title), "REJECTED", reason
        )
        log.warning(
            "association_rejected",
            calling_ae_title=requestor.ae_title,
            address=requestor.address,
            reason=reason,
        )

    def _ended(self, event: Any, end: AssociationEnd) -> None:
        """Note the first end; a connection that closes unannounced was lost."""
        association_id = self._ids.pop(event.assoc, None)
        if association_id is None:
            return  # it was rejected, or has ended already
        self._ledger.associations.closed(association_id, end, self._clock())
        self._on_association_end()
        log.info("association_ended", association_id=association_id, end=end.value)

    # ------------------------------------------------------------ C-STORE

    def _store(self, event: Any) -> int | Dataset:
        request = event.request
        sop_instance_uid = str(request.AffectedSOPInstanceUID)
        try:
            self._keeper.keep(
                Arriving(
                    sop_class_uid=str(request.AffectedSOPClassUID),
                    sop_instance_uid=sop_instance_uid,
                    transfer_syntax_uid=str(event.context.transfer_syntax),
                    data_set=request.DataSet.getvalue(),
                    association_id=self._ids[event.assoc],
                    calling_ae_title=event.assoc.requestor.ae_title,
                )
            )
        except InstanceRefused as error:
            return self._refused(sop_instance_uid, error.status, error)
        except StoreFull as error:
            return self._refused(sop_instance_uid, Status.OUT_OF_RESOURCES, error)
        except Exception as error:
            # the sender keeps its copy whatever went wrong here
            log.exception("instance_failed", sop_instance_uid=sop_instance_uid)
            return self._refused(sop_instance_uid, Status.OUT_OF_RESOURCES, error)
        self._checkpoint("receive.answering")
        return Status.SUCCESS

    def _refused(self, sop_instance_uid: str, status: int, error: Exception) -> Dataset:
        message = error.message if isinstance(error, DicomNodeError) else f"{type(error).__name__}"
        log.warning(
            "instance_refused",
            sop_instance_uid=sop_instance_uid,
            status=f"0x{status:04X}",
            reason=message,
        )
        try:
            self._ledger.events.record(
                self._clock(), ("instance", sop_instance_uid), "REFUSED", message
            )
        except DicomNodeError as ledger_error:  # a full disk: the answer still goes out
            log.error("event_lost", reason=ledger_error.message)
        answer = Dataset()
        answer.Status = int(status)
        answer.ErrorComment = message[:64]
        return answer

    def _application_entity(self, ae_title: str) -> Any:
        ae = AE(ae_title=ae_title)
        ae.supported_contexts = [verification_context()]
        ae.implementation_class_uid = IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = self._settings.pdu_bytes_max
        ae.maximum_associations = self._settings.associations_max
        ae.acse_timeout = _NEGOTIATION_TIMEOUT_S
        ae.dimse_timeout = self._settings.idle_timeout_s
        ae.network_timeout = self._settings.idle_timeout_s
        ae.require_called_aet = self._our_title is not None
        if self._admitted is not None:
            ae.require_calling_aet = sorted(self._admitted)
        return ae
