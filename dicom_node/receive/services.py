"""Which service answers which abstract syntax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.protocol.command import CommandField
from dicom_node.receive.availability import (
    INSTANCE_AVAILABILITY_NOTIFICATION,
    AvailabilityService,
)
from dicom_node.receive.commitment import CommitmentService
from dicom_node.receive.commitment_results import CommitmentResults
from dicom_node.receive.mpps import MODALITY_PERFORMED_PROCEDURE_STEP, ProcedureStepService
from dicom_node.receive.query import QueryService
from dicom_node.receive.query_keys import PATIENT_ROOT, STUDY_ROOT
from dicom_node.receive.query_search import ReadHeader
from dicom_node.receive.service import EventReport, Service, ServiceReply, ServiceRequest
from dicom_node.scu.commitment import STORAGE_COMMITMENT_PUSH_MODEL


def standard_services(
    ledger: Ledger,
    config: Config,
    caught_up: Callable[[], bool],
    read_header: ReadHeader,
    is_held: Callable[[Instance], bool],
    clock: Clock,
) -> dict[str, Service]:
    """Return every service beside C-STORE and C-ECHO, by its SOP Class UID.

    Parameters
    ----------
    caught_up : callable
        Waits a short while until all that was acknowledged before is in the ledger; says if it is.
    read_header : callable
        Returns the header of a stored instance.
    is_held : callable
        Whether the bytes of an instance can be found.
    """
    later = ThreadPoolExecutor(1, "commitment-answers").submit  # started with the first of them
    commitment = CommitmentService(ledger, caught_up, is_held, clock, later)
    names = {
        title: [name for name, peer in config.destinations.items() if peer.ae_title == title]
        for title in {peer.ae_title for peer in config.destinations.values()}
    }
    results = CommitmentResults(ledger, names, clock)
    query = QueryService(ledger, config.node.ae_title, caught_up, read_header)
    return {
        STUDY_ROOT: query,
        PATIENT_ROOT: query,
        STORAGE_COMMITMENT_PUSH_MODEL: _in_both_roles(commitment, results),
        MODALITY_PERFORMED_PROCEDURE_STEP: ProcedureStepService(ledger, clock),
        INSTANCE_AVAILABILITY_NOTIFICATION: AvailabilityService(ledger, clock),
    }


def _in_both_roles(as_scp: Service, as_scu: Service) -> Service:
    """Return the service of a SOP Class of which a peer may be the SCU, or the SCP that reports."""

    def answer(request: ServiceRequest) -> Iterator[ServiceReply | EventReport]:
        reports = request.command.field == CommandField.N_EVENT_REPORT
        return (as_scu if reports else as_scp)(request)

    return answer
