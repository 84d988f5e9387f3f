"""The HTTP of the KServe v2 protocol: one connection that is kept, and whose failures are ours."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from numpy.typing import NDArray

from dicom_node.errors import EngineError, EngineUnavailable

_CONNECT_WITHIN_S = 10.0
_HEADER_LENGTH = "Inference-Header-Content-Length"
_HINT = "start the server, or change infer.server_url"


class Refused(EngineError):
    """The server understood and says no (a status of 4xx), with its reason."""


@dataclass(frozen=True)
class Answer:
    """What came back: a JSON header, and the bytes of the tensors behind it."""

    header: Mapping[str, Any]
    binary: memoryview


class Server:
    """A server by its URL.

    Parameters
    ----------
    url : str
        http or https, with a path where the server stands behind another.
    answer_within_s : float
        How long it may be silent.

    Raises
    ------
    EngineError
        If the URL is none.
    """

    def __init__(self, url: str, answer_within_s: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise EngineError(
                f"{url or 'nothing'} is no server's URL",
                hint="set infer.server_url to one such as http://host:8000",
            )
        port = f":{parts.port}" if parts.port else ""
        self._at = f"the inference server at {parts.hostname}{port}"
        self._prefix = parts.path.rstrip("/")
        self._answer_within_s = answer_within_s
        kind = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
        self._connection = kind[parts.scheme](parts.hostname, parts.port, timeout=_CONNECT_WITHIN_S)

    def require_ready(self) -> None:
        """Ask whether it serves.

        Raises
        ------
        EngineUnavailable
            If it does not, yet.
        """
        try:
            self._exchange("GET", "v2/health/ready")
        except Refused as refusal:
            raise EngineUnavailable(
                f"{self._at} is not ready: {refusal.message}", hint=_HINT
            ) from refusal

    def get(self, path: str) -> Mapping[str, Any]:
        """Return the JSON object at a path."""
        return _json(self._exchange("GET", path)[1])

    def post(self, path: str, body: Mapping[str, Any]) -> None:
        """Have something done."""
        self._exchange("POST", path, [json.dumps(body).encode()])

    def forget(self, path: str) -> None:
        """Have something undone; a server that is gone has forgotten it."""
        with suppress(EngineError):
            self._exchange("POST", path, [b"{}"])

    def infer(
        self, path: str, header: Mapping[str, Any], tensors: Sequence[NDArray[Any]]
    ) -> Answer:
        """Send tensors and return what comes back.

        Parameters
        ----------
        path : str
        header : mapping
            The JSON part.
        tensors : sequence of numpy.ndarray
            C-contiguous; sent as they lie in memory, behind the header.

        Raises
        ------
        Refused
            With the server's reason.
        EngineUnavailable
            If it is gone, too slow, overloaded, or fails inside.
        EngineError
            If what comes back is no answer.
        """
        head = json.dumps(header).encode()
        views = [tensor.data.cast("B") for tensor in tensors]
        extra = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(head))}
        length, body = self._exchange("POST", path, [head, *views], extra if views else {})
        view = memoryview(body)
        if length > len(view):
            raise EngineError(f"{self._at} sent an answer that is shorter than its header")
        return Answer(_json(view[:length]), view[length:])

    def close(self) -> None:
        """Hang up; the next request connects again."""
        self._connection.close()

    def _exchange(
        self,
        method: str,
        path: str,
        body: Sequence[bytes | memoryview] = (),
        extra: Mapping[str, str] | None = None,
    ) -> tuple[int, bytearray]:
        """Return the body of the answer and how many bytes of it are JSON."""
        kept = self._connection.sock is not None
        with self._translated():
            try:
                response = self._ask(method, path, body, extra or {})
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                if not kept:
                    raise
                # It had closed the connection that we kept. To ask twice does no harm.
                self.close()
                response = self._ask(method, path, body, extra or {})
            content = _read(response)
        if response.status >= 400:
            self._raise(response.status, bytes(content))
        return int(response.headers.get(_HEADER_LENGTH, len(content))), content

    def _ask(
        self,
        method: str,
        path: str,
        body: Sequence[bytes | memoryview],
        extra: Mapping[str, str],
    ) -> http.client.HTTPResponse:
        if self._connection.sock is None:
            self._connect()
        length = sum(len(part) for part in body)
        headers = {"Content-Length": str(length), "Content-Type": "application/json", **extra}
        self._connection.request(method, f"{self._prefix}/{path}", iter(body), headers)
        response: http.client.HTTPResponse = self._connection.getresponse()
        return response

    def _connect(self) -> None:
        self._connection.connect()
        self._connection.sock.settimeout(self._answer_within_s)

    def _raise(self, status: int, content: bytes) -> None:
        words = _reason(content) or f"HTTP status {status}"
        if status >= 500 or status == 429:
            raise EngineUnavailable(f"{self._at} failed: {words}", hint="look into its log")
        raise Refused(words)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            self.close()
            words = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise EngineUnavailable(
                f"{self._at} is gone: {words or type(error).__name__}", hint=_HINT
            ) from error


def _read(response: http.client.HTTPResponse) -> bytearray:
    """Return the whole body, in one piece of memory that the tensors may stay in.

    Raises
    ------
    http.client.IncompleteRead
        If the connection ends before it does.
    """
    if response.length is None:  # chunked, or until the server hangs up
        return bytearray(response.read())
    length, content = response.length, bytearray(response.length)
    view, at = memoryview(content), 0
    while at < length:
        got = response.readinto(view[at:])
        if not got:
            raise http.client.IncompleteRead(bytes(view[:0]), length - at)
        at += got
    response.read()  # the end of it, so that the connection can be used again
    return content


def _json(content: bytearray | memoryview) -> Mapping[str, Any]:
    try:
        found = json.loads(bytes(content))
    except ValueError as error:
        raise EngineError(f"the inference server's answer is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise EngineError("the inference server's answer is no JSON object")
    return found


def _reason(content: bytes) -> str:
    """Return the words of {"error": WORDS}, or the first line of anything else."""
    try:
        found = json.loads(content)
    except ValueError:
        return next(iter(content.decode("utf-8", "replace").splitlines()), "")
    return str(found.get("error", "")) if isinstance(found, dict) else ""
