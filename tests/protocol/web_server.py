"""A DICOMweb server that does what its script says, and remembers what it was sent."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import pydicom


@dataclass(frozen=True)
class Request:
    """What came."""

    method: str
    path: str
    headers: Mapping[str, str]
    parts: tuple[bytes, ...]
    """Of a multipart body, without the headers of each."""

    @property
    def sop_instance_uids(self) -> list[str]:
        return [str(pydicom.dcmread(BytesIO(part)).SOPInstanceUID) for part in self.parts]


@dataclass
class Reply:
    """What goes back."""

    status: int = 200
    body: Any = None
    """Written as DICOM JSON, unless it is bytes; None is an empty body."""
    content_type: str = "application/dicom+json"
    headers: Mapping[str, str] = field(default_factory=dict)
    closes: bool = False
    """Hangs up instead of answering."""
    declares: int | None = None
    """Content-Length, where it is to be another than the body's."""


Script = Callable[[Request], Reply]


class WebServer:
    """A server on loopback, until its block ends.

    Parameters
    ----------
    script : callable
        Makes the reply to each request.
    certificate, key : Path, optional
        PEM files, for https.
    reads : bool
        Whether bodies are read at all.
    """

    def __init__(
        self,
        script: Script,
        *,
        certificate: Path | None = None,
        key: Path | None = None,
        reads: bool = True,
    ) -> None:
        self.requests: list[Request] = []
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self._handle()

            def do_POST(self) -> None:
                self._handle()

            def _handle(self) -> None:
                length = int(self.headers.get("Content-Length") or 0) if reads else 0
                body = self.rfile.read(length)
                parts = split(body, self.headers.get("Content-Type", "")) if body else ()
                request = Request(self.command, self.path, dict(self.headers), parts)
                owner.requests.append(request)
                self._answer(script(request))

            def _answer(self, reply: Reply) -> None:
                self.close_connection = True
                if reply.closes:
                    return
                body = b"" if reply.body is None else reply.body
                if not isinstance(body, bytes):
                    body = json.dumps(body).encode()
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(reply.declares or len(body)))
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        scheme = "http"
        if certificate is not None:
            scheme = "https"
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate, key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}/dicom-web"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def split(body: bytes, content_type: str) -> tuple[bytes, ...]:
    """Return the parts of a multipart body; an oracle of its own, by the bytes of RFC 2046."""
    if "boundary=" not in content_type:
        return ()
    boundary = content_type.split("boundary=")[1].strip('"').encode()
    assert body.endswith(b"\r\n--" + boundary + b"--\r\n")
    *_, last = parts = body.split(b"--" + boundary)
    assert last == b"--\r\n"
    assert parts[0] == b""
    return tuple(part.split(b"\r\n\r\n", 1)[1].removesuffix(b"\r\n") for part in parts[1:-1])


def told(
    stored: Sequence[str] = (),
    failed: Mapping[str, int] | None = None,
    warned: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the data set of a Store Instances Response (PS3.18 10.5.3)."""

    def item(uid: str, keyword: str = "", status: int = 0) -> dict[str, Any]:
        named: dict[str, Any] = {
            "00081150": {"vr": "UI", "Value": ["1.2.840.10008.5.1.4.1.1.2"]},
            "00081155": {"vr": "UI", "Value": [uid]},
        }
        if keyword:
            named[keyword] = {"vr": "US", "Value": [status]}
        return named

    succeeded = [item(uid) for uid in stored]
    succeeded += [item(uid, "00081196", status) for uid, status in (warned or {}).items()]
    not_stored = [item(uid, "00081197", status) for uid, status in (failed or {}).items()]
    answer: dict[str, Any] = {}
    if succeeded:
        answer["00081199"] = {"vr": "SQ", "Value": succeeded}
    if not_stored:
        answer["00081198"] = {"vr": "SQ", "Value": not_stored}
    return answer


def keeps_everything(request: Request) -> Reply:
    """Answer as a good archive does."""
    if request.method == "GET":
        return Reply(204)
    return Reply(200, told(request.sop_instance_uids))
