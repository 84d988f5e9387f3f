"""A KServe v2 server to test against: ONNX Runtime behind http.server, on loopback.

It answers as Triton does, as far as the node asks: health, metadata, inference with the binary
extension, and system shared memory, which it maps itself. `Manners` are its ways to misbehave.
"""

from __future__ import annotations

import json
import mmap
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

_DATATYPES = {"tensor(float)": "FP32", "tensor(uint8)": "UINT8", "tensor(int64)": "INT64"}
_DTYPES = {"FP32": np.float32, "UINT8": np.uint8, "INT64": np.int64}
_HEADER = "Inference-Header-Content-Length"


@dataclass
class Manners:
    """How the server misbehaves; by default it does not."""

    ready: bool = True
    shares: bool = True
    binary: bool = True
    """False answers numbers in JSON."""
    status: int = 0
    """Of every answer to an inference, with a reason, where it is not 0."""
    truncate: int = 0
    """So many bytes of an answer are kept back, and the connection is closed."""
    hang_up: bool = False
    """An inference gets no answer, but the end of the connection."""
    close_after_each: bool = False
    silent: threading.Event | None = None
    """An inference is answered once this is set."""
    forgets: bool = False
    """It says that an answer lies in shared memory, but has not put it there."""
    shape: tuple[int, ...] | None = None
    """What it says the shape of every output is."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Laid over what it says of its models."""
    nonsense: bool = False
    """An inference is answered with something that is no JSON."""


class KServeServer:
    """The models of some files; `requests` has the path of each request."""

    def __init__(self, models: Mapping[str, Path], manners: Manners) -> None:
        self.models = {
            name: onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
            for name, file in models.items()
        }
        self.manners = manners
        self.requests: list[str] = []
        self.connections = 0
        self.regions: dict[str, mmap.mmap] = {}
        owner = self

        class Handler(_Handler):
            server_of = owner

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"

    def stop(self) -> None:
        if self.manners.silent:
            self.manners.silent.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@contextmanager
def kserve_server(
    models: Mapping[str, Path], manners: Manners | None = None
) -> Iterator[KServeServer]:
    server = KServeServer(models, manners or Manners())
    try:
        yield server
    finally:
        server.stop()


class _Handler(BaseHTTPRequestHandler):
    server_of: KServeServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # headers and body in one packet

    def setup(self) -> None:
        super().setup()
        self.server_of.connections += 1

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        server, path = self.server_of, self.path.strip("/")
        server.requests.append(path)
        name = path.removeprefix("v2/models/")
        if path == "v2/health/ready":
            self._answer(200 if server.manners.ready else 400, b"")
        elif path == "v2":
            self._say(200, {"name": "fake", "version": "1.2", "extensions": ["binary_tensor_data"]})
        elif name in server.models:
            self._say(200, _metadata(name, server.models[name]) | dict(server.manners.metadata))
        else:
            self._say(400, {"error": f"Request for unknown model: '{name}' is not found"})

    def do_POST(self) -> None:
        server, path = self.server_of, self.path.strip("/")
        server.requests.append(path)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if path.startswith("v2/systemsharedmemory/region/"):
            name, verb = path.split("/")[3:5]
            self._share(name, verb, json.loads(body))
        elif server.manners.hang_up:
            self.close_connection = True
        elif server.manners.status:
            self._say(server.manners.status, {"error": "the model is not in the mood"})
        elif server.manners.nonsense:
            self._answer(200, b"<html>Welcome</html>")
        else:
            if server.manners.silent:
                server.manners.silent.wait()
            self._infer(path.split("/")[2], body)

    def _share(self, name: str, verb: str, about: Mapping[str, Any]) -> None:
        regions = self.server_of.regions
        if not self.server_of.manners.shares:
            self._say(400, {"error": "shared memory is not supported"})
        elif verb == "register":
            descriptor = os.open(f"/dev/shm{about['key']}", os.O_RDWR)
            regions[name] = mmap.mmap(descriptor, about["byte_size"])
            os.close(descriptor)
            self._say(200, {})
        else:
            if name in regions:
                regions.pop(name).close()
            self._say(200, {})

    def _infer(self, name: str, body: bytes) -> None:
        length = int(self.headers.get(_HEADER, len(body)))
        header, binary = json.loads(body[:length]), body[length:]
        given: dict[str, NDArray[Any]] = {}
        for described in header["inputs"]:
            where = described["parameters"]
            dtype = np.dtype(_DTYPES[described["datatype"]])
            if region := where.get("shared_memory_region"):
                if region not in self.server_of.regions:
                    self._say(400, {"error": f"Unable to find shared memory region: '{region}'"})
                    return
                start, size = where["shared_memory_offset"], where["shared_memory_byte_size"]
                data = self.server_of.regions[region][start : start + size]
            else:
                size = where["binary_data_size"]
                data, binary = binary[:size], binary[size:]
            given[described["name"]] = np.frombuffer(data, dtype).reshape(described["shape"])
        names = [output["name"] for output in header["outputs"]]
        found = self.server_of.models[name].run(names, given)
        self._give(header["outputs"], found)

    def _give(self, wanted: list[dict[str, Any]], found: list[NDArray[Any]]) -> None:
        manners, outputs, binary = self.server_of.manners, [], b""
        types = {np.dtype(dtype): datatype for datatype, dtype in _DTYPES.items()}
        for output, array in zip(wanted, found, strict=True):
            shape = list(manners.shape or array.shape)
            said: dict[str, Any] = {"name": output["name"], "shape": shape}
            said["datatype"] = types[array.dtype]
            where = output.get("parameters", {})
            if region := where.get("shared_memory_region"):
                start = where["shared_memory_offset"]
                if not manners.forgets:
                    self.server_of.regions[region][start : start + array.nbytes] = array.tobytes()
            elif manners.binary:
                binary += array.tobytes()
                said["parameters"] = {"binary_data_size": array.nbytes}
            else:
                said["data"] = array.ravel().tolist()
            outputs.append(said)
        head = json.dumps({"model_name": "x", "outputs": outputs}).encode()
        self._answer(200, head + binary, {_HEADER: str(len(head))} if binary else {})

    def _say(self, status: int, words: Mapping[str, Any]) -> None:
        self._answer(status, json.dumps(words).encode())

    def _answer(self, status: int, body: bytes, extra: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(extra or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        manners = self.server_of.manners
        self.wfile.write(body[: len(body) - manners.truncate])
        self.wfile.flush()
        if manners.truncate or manners.close_after_each:
            self.close_connection = True


def _metadata(name: str, model: onnxruntime.InferenceSession) -> dict[str, Any]:
    def described(tensors: Any) -> list[dict[str, Any]]:
        return [
            {
                "name": tensor.name,
                "datatype": _DATATYPES[tensor.type],
                "shape": [side if isinstance(side, int) else -1 for side in tensor.shape],
            }
            for tensor in tensors
        ]

    return {
        "name": name,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": described(model.get_inputs()),
        "outputs": described(model.get_outputs()),
    }
