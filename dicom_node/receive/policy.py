"""Whom we let in and what we take: pure decisions, each with its reason."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import IntEnum

from dicom_node.errors import InstanceRefused
from dicom_node.uid import is_uid


class Status(IntEnum):
    """C-STORE status codes (PS3.4 Table B.2-1)."""

    SUCCESS = 0x0000
    OUT_OF_RESOURCES = 0xA700
    DATA_SET_DOES_NOT_MATCH = 0xA900
    CANNOT_UNDERSTAND = 0xC000


@dataclass(frozen=True)
class Identity:
    """The UIDs by which an instance is filed; empty where there is none."""

    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    series_instance_uid: str


def refusal_of_association(
    calling: str, called: str, admitted: Collection[str] | None, our_title: str | None
) -> str | None:
    """Return why an association is refused, None if it is not.

    Parameters
    ----------
    admitted : collection of str, optional
        The calling AE titles that may send; None admits all.
    our_title : str, optional
        What the requestor must call us; None admits all.
    """
    if admitted is not None and calling not in admitted:
        return (
            f"calling AE title {calling} is unknown; to admit it, add under `peers:` an entry with "
            f"`ae_title: {calling}` and `may_send: true`"
        )
    if our_title is not None and called != our_title:
        return f"it called {called}, but this node is {our_title}"
    return None


def check_command(command: Identity) -> None:
    """Refuse a C-STORE-RQ whose UIDs are none: nothing could be filed under them.

    Parameters
    ----------
    command : Identity
        From the C-STORE-RQ, which carries no Study and no Series Instance UID.

    Raises
    ------
    InstanceRefused
        With the status that answers the C-STORE.
    """
    for name, value in (
        ("SOP Instance UID", command.sop_instance_uid),
        ("SOP Class UID", command.sop_class_uid),
    ):
        if not is_uid(value):
            raise InstanceRefused(
                f"the command's {name} is no UID", status=Status.DATA_SET_DOES_NOT_MATCH
            )


def check_identity(command: Identity, data_set: Identity) -> None:
    """Refuse an instance that could not be found again under its UIDs.

    Parameters
    ----------
    command : Identity
        From the C-STORE-RQ.
    data_set : Identity
        From the data set that came with it.

    Raises
    ------
    InstanceRefused
        With the status that answers the C-STORE.
    """
    check_command(command)
    for name, value in (
        ("SOP Instance UID", data_set.sop_instance_uid),
        ("SOP Class UID", data_set.sop_class_uid),
        ("Study Instance UID", data_set.study_instance_uid),
        ("Series Instance UID", data_set.series_instance_uid),
    ):
        if not is_uid(value):
            what = "is no UID" if value else "is missing"
            raise InstanceRefused(
                f"the data set's {name} {what}",
                status=Status.CANNOT_UNDERSTAND,
                hint="the sender must repair the instance",
            )
    if command.sop_instance_uid != data_set.sop_instance_uid:
        raise InstanceRefused(
            "the SOP Instance UIDs of command and data set differ",
            status=Status.DATA_SET_DOES_NOT_MATCH,
        )
    if command.sop_class_uid != data_set.sop_class_uid:
        raise InstanceRefused(
            "the SOP Class UIDs of command and data set differ",
            status=Status.DATA_SET_DOES_NOT_MATCH,
        )
