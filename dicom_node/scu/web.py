"""A DICOMweb server that we ask or send to (PS3.18), and one HTTP exchange with it.

The standard library's client is enough: it sends a body piece by piece, knows no proxies and
follows no redirects, so credentials go to the server that the configuration names, nowhere else.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dicom_node.errors import PeerRefused, PeerUnreachable

CANNOT_UNDERSTAND = 0xC000
OUT_OF_RESOURCES = 0xA700
PROCESSING_FAILURE = 0x0110
SOP_CLASS_NOT_SUPPORTED = 0x0122
"""What a refusal would have been in DIMSE (PS3.4 B.2.3, PS3.7 C.5)."""

_UNREACHABLE = {
    401: "check the credentials that the configuration names",
    403: "have it admit the user that the configuration names",
    404: "check stow_url",
    405: "check stow_url",
    408: "try later",
    429: "try later",
    502: "look into the server's log, or that of what stands before it",
    503: "look into the server's log, or that of what stands before it",
    504: "look into the server's log, or that of what stands before it",
}
"""Answers that are no word about an instance: the server, or our way to it, is not ready."""
_REFUSED = {
    400: CANNOT_UNDERSTAND,
    406: SOP_CLASS_NOT_SUPPORTED,
    413: OUT_OF_RESOURCES,
    415: SOP_CLASS_NOT_SUPPORTED,
}
JSON = "application/dicom+json"


@dataclass(frozen=True)
class WebAddress:
    """The root of a server's DICOMweb services, and who we say we are."""

    url: str
    """http or https; studies lie below it."""
    name: str
    """Of the peer, for messages."""
    timeout_s: float = 30.0
    """For the connection and each silence of the server."""
    token_file: Path | None = None
    """Holds a bearer token (RFC 6750)."""
    password_file: Path | None = None
    """Holds user:password (RFC 7617)."""
    authorities: Path | None = None
    """PEM file of who may have issued the server's certificate; None for the system's."""

    def authorization(self) -> str:
        """Return the Authorization header, read anew: tokens are renewed while the node runs."""
        file = self.token_file or self.password_file
        if file is None:
            return ""
        try:
            secret = file.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise PeerUnreachable(
                f"the credentials for {self.name} cannot be read: {type(error).__name__}",
                hint="mend the file that the configuration names",
            ) from error
        if self.token_file is not None:
            return f"Bearer {secret}"
        return f"Basic {base64.b64encode(secret.encode()).decode()}"


@dataclass(frozen=True)
class Answer:
    """What a server answered."""

    status: int
    content_type: str
    content: bytes

    def json(self) -> list[Mapping[str, Any]]:
        """Return the data sets of a JSON answer; none where it has no body or is of another kind.

        A single one stands alone in some answers (PS3.18 10.5.3), in an array in others (8.7.3).
        """
        if "json" not in self.content_type or not self.content:
            return []
        try:
            found = json.loads(self.content)
        except ValueError:
            return []
        return [one for one in (found if isinstance(found, list) else [found]) if type(one) is dict]


def exchange(
    address: WebAddress,
    method: str,
    path: str,
    *,
    accept: str = JSON,
    content_type: str = "",
    body: Iterable[bytes | memoryview] | None = None,
    body_bytes: int = 0,
    answer_bytes_max: int = 64_000_000,
) -> Answer:
    """Ask once, on a connection of its own, and return the answer, whatever its status.

    Parameters
    ----------
    path : str
        Below the root, with its query.
    body : iterable of bytes, optional
        Sent as it comes; an error that is not of the network passes through.
    body_bytes : int
        Its whole length.
    answer_bytes_max : int
        A longer answer is taken for none.

    Raises
    ------
    PeerUnreachable
        If there is no connection or no whole answer.
    """
    parts = urlsplit(address.url)
    headers = {"Accept": accept}
    if authorization := address.authorization():
        headers["Authorization"] = authorization
    if body is not None:
        headers |= {"Content-Type": content_type, "Content-Length": str(body_bytes)}
    with _translated(address):
        connection = _connection(address)
        try:
            try:
                connection.request(method, f"{parts.path.rstrip('/')}/{path}", body, headers)
            except (BrokenPipeError, ConnectionResetError):
                if body is None:
                    raise
                # It did not want to hear the rest; why is in its answer, if it gave one.
            response = connection.getresponse()
            content = response.read(answer_bytes_max)
            if response.length:  # so many are missing; `read` does not say so
                raise http.client.IncompleteRead(content, response.length)
        finally:
            connection.close()
    return Answer(response.status, response.headers.get("Content-Type", ""), content)


def require(address: WebAddress, answer: Answer, request: str, *fine: int) -> None:
    """Raise what an answer of another status means.

    Raises
    ------
    PeerUnreachable
        If it is the server that is not ready, or does not let us in.
    PeerRefused
        If it is what was asked that it does not take.
    """
    status = answer.status
    if status in fine:
        return
    words = f"{address.name} answered HTTP {status} to a {request}"
    if 300 <= status < 400:
        raise PeerUnreachable(words, hint="write the URL that it redirects to into stow_url")
    if status in _UNREACHABLE:
        raise PeerUnreachable(words, hint=_UNREACHABLE[status])
    raise PeerRefused(
        words,
        status=_REFUSED.get(status, PROCESSING_FAILURE),
        retryable=status >= 500,
        hint="look into the server's log",
    )


def _connection(address: WebAddress) -> http.client.HTTPConnection:
    parts = urlsplit(address.url)
    host, port, timeout_s = parts.hostname or "", parts.port, address.timeout_s
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        context = ssl.create_default_context(cafile=address.authorities)
    except (OSError, ssl.SSLError) as error:
        raise PeerUnreachable(
            f"the authorities for {address.name} cannot be read: {type(error).__name__}",
            hint="mend the PEM file that stow_authorities names",
        ) from error
    return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=context)


@contextmanager
def _translated(address: WebAddress) -> Iterator[None]:
    try:
        yield
    except ssl.SSLCertVerificationError as error:
        raise PeerUnreachable(
            f"{address.name}'s certificate is not accepted: {error.verify_message}",
            hint="name the authority that issued it in stow_authorities",
        ) from error
    except TimeoutError as error:
        raise PeerUnreachable(
            f"{address.name} was silent for {address.timeout_s:g} s", hint="look into its log"
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise PeerUnreachable(
            f"{address.name} cannot be reached, or broke off: {type(error).__name__}",
            hint="is the server running, and stow_url right?",
        ) from error
