"""An archive that commits to storage, by a script of its lies.

It keeps apart what it answers and what it has: `received` is what it really has. It answers C-FIND
and C-GET like `QueryArchive`, and N-ACTION for the Storage Commitment Push Model; its reports come
on the association of the request, on one of its own, in part, or never.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID
from pynetdicom import AE, evt
from pynetdicom.association import Association
from pynetdicom.dimse_primitives import N_ACTION, N_EVENT_REPORT, DimseServiceType
from pynetdicom.dsutils import decode

from dicom_node.errors import PeerUnreachable
from dicom_node.harness.archive import SUCCESS
from dicom_node.harness.query_archive import PLAIN_TRANSFER_SYNTAXES, QueryArchive
from dicom_node.model import CommitmentOutcome, ReferencedInstance
from dicom_node.scu.commitment import (
    STORAGE_COMMITMENT_INSTANCE,
    STORAGE_COMMITMENT_PUSH_MODEL,
    event_type_id,
    report_of,
)
from dicom_node.scu.requestor import Requestor

OUT_OF_RESOURCES = 0xA700
NO_SUCH_INSTANCE = 0x0112
COERCED = 0xB000
"""A warning: data elements were coerced (PS3.4 B.2.3)."""

_IMPLICIT_VR_LITTLE_ENDIAN = "1.2.840.10008.1.2"


class Deed(StrEnum):
    """What is done with an instance."""

    KEEP = "keep"
    WARN = "keep, and answer a warning"
    DROP = "answer Success, and throw it away"
    ABORT = "abort, and throw it away"
    KEEP_AND_ABORT = "keep, and abort"
    FULL = "answer 0xA700"


class Reports(StrEnum):
    """How the result of a request for commitment comes."""

    NOT_OFFERED = "not offered"
    AT_ONCE = "on the association of the request"
    ON_ITS_OWN = "on an association of its own"
    PARTLY = "on the association of the request, every second instance left out"
    NEVER = "never"


class LyingArchive(QueryArchive):
    """A `QueryArchive` that commits.

    Parameters
    ----------
    script : callable
        What is done with the n-th instance that comes, from 0.
    reports : Reports
        How it reports.
    report_to : (str, int), optional
        Where who asked listens, for reports on associations of its own.
    answers_query : bool
        Whether C-FIND, C-MOVE and C-GET are offered.
    """

    def __init__(
        self,
        folder: Path,
        *,
        script: Callable[[int], Deed] = lambda number: Deed.KEEP,
        reports: Reports = Reports.AT_ONCE,
        report_to: tuple[str, int] | None = None,
        answers_query: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(folder, **options)
        self._script = script
        self.reports = reports
        self.report_to = report_to
        self._answers_query = answers_query
        self._lock = threading.Lock()
        self._came = 0
        self._reporting: list[threading.Thread] = []
        self.acknowledged: list[int | None] = []
        """What was answered to each report."""

    def stop(self) -> None:
        """Stop, and wait for the reports that are under way."""
        super().stop()
        for thread in self._reporting:
            thread.join()
        self._reporting.clear()

    def offer(self, ae: AE) -> None:
        """See `Archive`."""
        if self._answers_query:
            super().offer(ae)
        else:
            super(QueryArchive, self).offer(ae)
        if self.reports is not Reports.NOT_OFFERED:
            ae.add_supported_context(STORAGE_COMMITMENT_PUSH_MODEL, PLAIN_TRANSFER_SYNTAXES)

    def on_instance(self, event: evt.Event) -> int:
        """See `Archive`."""
        with self._lock:
            deed = self._script(self._came)
            self._came += 1
        if deed is Deed.FULL:
            return OUT_OF_RESOURCES
        if deed in (Deed.KEEP, Deed.WARN, Deed.KEEP_AND_ABORT):
            status = self.keep(event)
            if deed is Deed.WARN and status == SUCCESS:
                status = COERCED
        else:
            status = SUCCESS
        if deed in (Deed.ABORT, Deed.KEEP_AND_ABORT):
            event.assoc.abort()
        return status

    # ------------------------------------------------------------ commitment

    def _serve(
        self,
        association: Association,
        serve: Callable[[DimseServiceType, int], None],
        message: DimseServiceType,
        context_id: int,
    ) -> None:
        if isinstance(message, N_ACTION) and message.ActionInformation is not None:
            self._commit(association, message, message.ActionInformation, context_id)
        else:
            super()._serve(association, serve, message, context_id)

    def _commit(
        self, association: Association, request: N_ACTION, encoded: BytesIO, context_id: int
    ) -> None:
        [syntax] = association._accepted_cx[context_id].transfer_syntax
        information = decode(encoded, syntax.is_implicit_VR, syntax.is_little_endian)
        response = N_ACTION()
        response.MessageIDBeingRespondedTo = request.MessageID
        response.AffectedSOPClassUID = request.RequestedSOPClassUID
        response.AffectedSOPInstanceUID = request.RequestedSOPInstanceUID
        response.ActionTypeID = request.ActionTypeID
        response.Status = SUCCESS
        association.dimse.send_msg(response, context_id)
        outcome = self._judged(information.ReferencedSOPSequence)
        transaction_uid = str(information.TransactionUID)
        if self.reports in (Reports.AT_ONCE, Reports.PARTLY):
            report = report_of(transaction_uid, outcome, str(syntax))
            self._report_here(association, context_id, event_type_id(outcome), report)
        elif self.reports is Reports.ON_ITS_OWN:
            later = partial(self._report_there, transaction_uid, outcome)
            thread = threading.Thread(target=later, name="report")
            self._reporting.append(thread)
            thread.start()

    def _judged(self, items: Sequence[Dataset]) -> CommitmentOutcome:
        held = {received.sop_instance_uid for received in self.received()}
        references = [
            ReferencedInstance(str(i.ReferencedSOPClassUID), str(i.ReferencedSOPInstanceUID))
            for i in items
        ]
        if self.reports is Reports.PARTLY:
            references = references[::2]
        return CommitmentOutcome(
            tuple(one for one in references if one.sop_instance_uid in held),
            tuple((r, NO_SUCH_INSTANCE) for r in references if r.sop_instance_uid not in held),
        )

    def _report_here(
        self, association: Association, context_id: int, event_type: int, encoded: bytes
    ) -> None:
        request = N_EVENT_REPORT()
        request.MessageID = 1
        request.AffectedSOPClassUID = UID(STORAGE_COMMITMENT_PUSH_MODEL)
        request.AffectedSOPInstanceUID = UID(STORAGE_COMMITMENT_INSTANCE)
        request.EventTypeID = event_type
        request.EventInformation = BytesIO(encoded)
        association.dimse.send_msg(request, context_id)
        _, answer = association.dimse.get_msg(block=True)
        self.acknowledged.append(answer.Status if isinstance(answer, N_EVENT_REPORT) else None)

    def _report_there(self, transaction_uid: str, outcome: CommitmentOutcome) -> None:
        if self.report_to is None:
            return
        context = (STORAGE_COMMITMENT_PUSH_MODEL, _IMPLICIT_VR_LITTLE_ENDIAN)
        host, port = self.report_to
        try:
            with Requestor(
                host,
                port,
                [context],
                scp_of=[STORAGE_COMMITMENT_PUSH_MODEL],
                calling=self.ae_title,
                called="DICOM_NODE",
            ) as requestor:
                encoded = report_of(transaction_uid, outcome, _IMPLICIT_VR_LITTLE_ENDIAN)
                event_type = event_type_id(outcome)
                status = requestor.report_event(
                    context, STORAGE_COMMITMENT_INSTANCE, event_type, encoded
                )
                self.acknowledged.append(status)
        except PeerUnreachable:
            self.acknowledged.append(None)
