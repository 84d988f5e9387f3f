"""Asking a DICOMweb server what it has, and for an instance back (PS3.18 10.6 and 10.4)."""

from __future__ import annotations

from collections.abc import Iterator
from email.message import Message
from urllib.parse import quote

from dicom_node.errors import PeerRefused
from dicom_node.scu.web import JSON, PROCESSING_FAILURE, WebAddress, exchange, require

_PAGE = 500
_PAGES_MAX = 1000
_INSTANCE_BYTES_MAX = 4_294_967_296
_SOP_CLASS_UID, _SOP_INSTANCE_UID = "00080016", "00080018"


def echo(address: WebAddress) -> None:
    """Have a server show that it is there, and lets us in.

    Raises
    ------
    PeerUnreachable, PeerRefused
        See `web.require`.
    """
    answer = exchange(address, "GET", "studies?limit=1")
    require(address, answer, "search", 200, 204)


def instances_in(
    address: WebAddress, study_instance_uid: str, series_instance_uid: str
) -> dict[str, str]:
    """Return SOP Class UIDs by SOP Instance UID of what a server says it has of a series.

    The SOP Class is empty where it does not tell. A series that it does not know has none.

    Raises
    ------
    PeerUnreachable, PeerRefused
        See `web.require`.
    """
    found: dict[str, str] = {}
    for page in _pages(address, f"{_series(study_instance_uid, series_instance_uid)}/instances"):
        before = len(found)
        found |= page
        if len(found) == before:  # it knows no offset, and gives the same again
            break
    return found


def retrieve(
    address: WebAddress, study_instance_uid: str, series_instance_uid: str, sop_instance_uid: str
) -> bytes | None:
    """Return an instance as a Part 10 file, in the transfer syntax in which it is kept.

    None if the server does not have it.

    Raises
    ------
    PeerUnreachable, PeerRefused
        See `web.require`; PeerRefused too if it answers with something else than an instance.
    """
    series = _series(study_instance_uid, series_instance_uid)
    answer = exchange(
        address,
        "GET",
        f"{series}/instances/{quote(sop_instance_uid)}",
        accept='multipart/related; type="application/dicom"; transfer-syntax=*',
        answer_bytes_max=_INSTANCE_BYTES_MAX,
    )
    if answer.status in {404, 410}:
        return None
    require(address, answer, "retrieval", 200)
    part = _first_part(answer.content_type, answer.content)
    if part[128:132] != b"DICM":
        raise PeerRefused(
            f"{address.name} sent no Part 10 file back",
            status=PROCESSING_FAILURE,
            retryable=True,
            hint="look into the server's log",
        )
    return part


def _pages(address: WebAddress, path: str) -> Iterator[dict[str, str]]:
    for page in range(_PAGES_MAX):
        answer = exchange(
            address, "GET", f"{path}?limit={_PAGE}&offset={page * _PAGE}", accept=JSON
        )
        if answer.status in {204, 404}:
            return
        require(address, answer, "search", 200, 206)
        found = {
            uid: _value(one, _SOP_CLASS_UID)
            for one in answer.json()
            if (uid := _value(one, _SOP_INSTANCE_UID))
        }
        yield found
        if len(found) == 0:
            return


def _value(data_set: object, tag: str) -> str:
    element = data_set.get(tag) if isinstance(data_set, dict) else None
    values = element.get("Value") if isinstance(element, dict) else None
    return str(values[0]) if isinstance(values, list) and values else ""


def _series(study_instance_uid: str, series_instance_uid: str) -> str:
    return f"studies/{quote(study_instance_uid)}/series/{quote(series_instance_uid)}"


def _first_part(content_type: str, content: bytes) -> bytes:
    """Return the first part of a multipart body (RFC 2046 5.1); all of it if it is none."""
    header = Message()
    header["Content-Type"] = content_type
    boundary = header.get_param("boundary")
    if not isinstance(boundary, str):
        return content
    line = b"--" + boundary.encode()
    _, found, rest = content.partition(line)
    if not found:
        return b""
    body = rest.partition(b"\r\n\r\n")[2]
    return body[: body.find(b"\r\n" + line)] if b"\r\n" + line in body else body
