"""DIMSE requests as the loop hands them to a service, and what came of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from dicom_node.data_sets import decode, encode
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import Instance
from dicom_node.protocol.command import Command, CommandField, Element, ui, us
from dicom_node.receive.service import EventReport, Service, ServiceReply, ServiceRequest
from tests.unit.receive.data_sets import EXPLICIT


def a_data_set(**attributes: Any) -> Dataset:
    """Return a data set of these attributes; lists of data sets become sequences."""
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def a_request(
    field: CommandField,
    sop_class_uid: str,
    data_set: Dataset | bytes = b"",
    *,
    sop_instance_uid: str = "",
    syntax: str = EXPLICIT,
    calling: str = "SCANNER",
    cancelled: Callable[[], bool] = lambda: False,
    **elements: bytes,
) -> ServiceRequest:
    """Return a request; `elements` are further ones of the command set, by name."""
    command = Command(
        {
            Element.COMMAND_FIELD: us(field),
            Element.MESSAGE_ID: us(7),
            Element.AFFECTED_SOP_CLASS_UID: ui(sop_class_uid),
            Element.COMMAND_DATA_SET_TYPE: us(1),
        }
    )
    if sop_instance_uid:
        command[Element.AFFECTED_SOP_INSTANCE_UID] = ui(sop_instance_uid)
    command.update({Element[name.upper()]: value for name, value in elements.items()})
    encoded = data_set if isinstance(data_set, bytes) else encode(data_set, syntax)
    return ServiceRequest(
        "association-1", calling, sop_class_uid, syntax, command, encoded, cancelled
    )


@dataclass(frozen=True)
class Answer:
    """Everything that a service yielded for one request."""

    replies: list[ServiceReply]
    reports: list[EventReport]
    syntax: str

    @property
    def statuses(self) -> list[int]:
        return [int(reply.status) for reply in self.replies]

    @property
    def status(self) -> int:
        """Of the last reply."""
        return self.statuses[-1]

    @property
    def comment(self) -> str:
        return Command(self.replies[-1].fields).text(Element.ERROR_COMMENT)

    @property
    def data_sets(self) -> list[Dataset]:
        return [decode(r.data_set, self.syntax) for r in self.replies if r.data_set]


def answer(service: Service, request: ServiceRequest) -> Answer:
    """Run a service to its end; nothing may follow its final reply but a report."""
    yielded = list(service(request))
    replies = [one for one in yielded if isinstance(one, ServiceReply)]
    reports = [one for one in yielded if isinstance(one, EventReport)]
    pending = [int(reply.status) & 0xFFFE == 0xFF00 for reply in replies]
    assert pending == [True] * (len(replies) - 1) + [False]
    for reply in replies:
        assert all(len(value) % 2 == 0 for value in reply.fields.values())
        assert len(reply.data_set) % 2 == 0
    return Answer(replies, reports, request.transfer_syntax_uid)


class Archive:
    """A ledger with stored headers: what a receiver would have made of some data sets."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self._headers: dict[str, Dataset] = {}
        self.headers_read: list[str] = []
        self.is_caught_up = True
        self._at = 100.0

    def keep(self, *datasets: Dataset) -> None:
        for dataset in datasets:
            self._at += 1
            path = f"instances/{dataset.SOPInstanceUID}.dcm"
            self._headers[path] = dataset
            self.ledger.studies.instance_stored(
                Instance(
                    sop_instance_uid=str(dataset.SOPInstanceUID),
                    sop_class_uid=str(dataset.SOPClassUID),
                    study_instance_uid=str(dataset.StudyInstanceUID),
                    series_instance_uid=str(dataset.SeriesInstanceUID),
                    transfer_syntax_uid=EXPLICIT,
                    path=path,
                    size_bytes=1000,
                    digest=path,
                    received_at=self._at,
                    association_id="association-1",
                    calling_ae_title="SCANNER",
                )
            )

    def read_header(self, instance: Instance) -> Dataset:
        self.headers_read.append(instance.sop_instance_uid)
        return self._headers[instance.path]

    def lose(self, sop_instance_uid: str) -> None:
        """Let the bytes of an instance be gone, whatever the ledger says."""
        del self._headers[f"instances/{sop_instance_uid}.dcm"]

    def is_held(self, instance: Instance) -> bool:
        return instance.path in self._headers

    def caught_up(self) -> bool:
        return self.is_caught_up
