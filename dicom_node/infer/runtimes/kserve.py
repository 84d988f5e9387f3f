"""A remote server that speaks the KServe v2 protocol: Triton, OpenVINO Model Server and others.

Over HTTP with the binary extension: a short JSON header, then the tensors' bytes as they lie in
memory. A server on this machine is shown them in shared memory instead, if it takes that. Tensors
leave this machine, never a header of DICOM.

The model `engines/NAME/model.onnx` is called NAME there, and any other file of it NAME_STEM:
`mr_brain_locate` for `mr_brain/locate.onnx`. Which of its versions answers, the server decides.

References
----------
kserve/open-inference-protocol: specification/protocol/inference_rest.md
triton-inference-server/server: docs/protocol/extension_binary_data.md, extension_shared_memory.md
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.runtimes.ends import check_given, outputs_for
from dicom_node.infer.runtimes.kserve_http import Refused, Server
from dicom_node.infer.runtimes.kserve_tensors import (
    IN_BINARY,
    described,
    read_outputs,
    sent,
    shared,
    why_another,
)
from dicom_node.infer.runtimes.onnx_file import read_onnx
from dicom_node.infer.runtimes.port import Arrays, LoadOptions
from dicom_node.infer.runtimes.shared_memory import SharedRegion, lay_out

_ANSWER_WITHIN_S = 300.0


class KServeKind:
    """Always there; it needs the address of a server."""

    name = "kserve"

    def missing(self) -> str:
        """Return nothing: the standard library is enough."""
        return ""

    def load(self, file: Path, options: LoadOptions) -> KServe:
        """Return the network as the server has it; see `port.RuntimeKind.load`."""
        return KServe(file, options.server_url)


KIND = KServeKind()


def model_name(file: Path) -> str:
    """Return what a model file of an engine is called on a server."""
    engine = file.absolute().parent.name
    return engine if file.stem == "model" else f"{engine}_{file.stem}"


class KServe:
    """One model of a server, over one connection that is kept.

    Parameters
    ----------
    file : Path
        The engine's own file: what the server has must look the same.
    server_url : str
        http://host:8000, with a path where the server stands behind another.
    answer_within_s : float, optional
        How long one answer may take.
    shares_memory : bool, optional
        False sends the tensors even to a server on this machine.

    Raises
    ------
    EngineUnavailable
        If the server cannot be reached or is not ready.
    EngineError
        If it has no such model, or one with other inputs or outputs.
    """

    def __init__(
        self,
        file: Path,
        server_url: str,
        *,
        answer_within_s: float = _ANSWER_WITHIN_S,
        shares_memory: bool = True,
    ) -> None:
        self._ends = read_onnx(file).ends
        self.inputs = self._ends.input_names
        self.outputs = self._ends.output_names
        self._file = f"{file.absolute().parent.name}/{file.name}"
        self._model = model_name(file)
        self._what = f"the server's {self._model}"
        self._server = Server(server_url, answer_within_s)
        self._lock = threading.Lock()
        self._region: SharedRegion | None = None
        self._shares = shares_memory and _is_this_machine(server_url)
        self.description = self._described()

    @property
    def shares_memory(self) -> bool:
        """Whether the tensors go through shared memory, as far as is known."""
        return self._shares

    def run(self, inputs: Arrays) -> Arrays:
        """Return all outputs by name; see `port.Runtime.run`."""
        check_given(self._file, self._ends, inputs)
        given = {name: np.ascontiguousarray(inputs[name]) for name in self.inputs}
        with self._lock:
            return self._run_shared(given) if self._shares else self._run_sent(given)

    def close(self) -> None:
        """Give the shared memory back and hang up; see `port.Runtime.close`."""
        with self._lock:
            self._release()
            self._server.close()

    def _described(self) -> str:
        """Return what runs there, once it is what our file means."""
        self._server.require_ready()
        hint = f"put {self._file} into its model repository as {self._model}"
        try:
            server = self._server.get("v2")
            model = self._server.get(f"v2/models/{self._model}")
        except Refused as refusal:
            raise EngineError(
                f"the server has no model {self._model}: {refusal.message}", hint=hint
            ) from refusal
        if why := why_another(self._ends, model):
            raise EngineError(f"{self._what} is another model than {self._file}: {why}", hint=hint)
        versions = "/".join(map(str, model.get("versions", ())))
        words = ["kserve", server.get("name"), server.get("version"), self._model, versions]
        return " ".join(str(word) for word in words if word)

    def _run_sent(self, given: Arrays) -> Arrays:
        header = {
            "inputs": [described(name, array) | sent(array) for name, array in given.items()],
            "outputs": [{"name": name} | IN_BINARY for name in self.outputs],
        }
        answer = self._server.infer(self._path, header, list(given.values()))
        return read_outputs(self._what, outputs_for(self._ends, given), answer)

    def _run_shared(self, given: Arrays) -> Arrays:
        """Run in shared memory; over the wire, from then on, if the server does not take that."""
        attempts = 1 if self._region is None else 2  # it may have been started anew since
        for _ in range(attempts):
            try:
                return self._ask_shared(given)
            except (OSError, Refused):
                # No shared memory is left; or the server cannot see ours: it is another user's, or
                # in a container, or does not know the extension.
                self._release()
            except EngineUnavailable:
                self._forget()
                raise
        self._shares = False
        return self._run_sent(given)

    def _ask_shared(self, given: Arrays) -> Arrays:
        wanted = outputs_for(self._ends, given)
        sizes = {name: array.nbytes for name, array in given.items()}
        # An output whose size only the answer tells comes over the wire.
        sizes |= {each.name: each.size_bytes for each in wanted if each.size_bytes is not None}
        offsets, size_bytes = lay_out(sizes)
        region = self._region_of(size_bytes)
        for name, array in given.items():
            region.write(offsets[name], array)
        placed = {name: offsets[name] for name in self.outputs if name in offsets}
        for name, offset in placed.items():
            # Triton may say 200 and write nothing (2.51, its Python backend with numpy 2).
            region.blank(offset, sizes[name])
        header = {
            "inputs": [
                described(name, array) | shared(region, offsets[name], array.nbytes)
                for name, array in given.items()
            ],
            "outputs": [
                {"name": name}
                | (shared(region, placed[name], sizes[name]) if name in placed else IN_BINARY)
                for name in self.outputs
            ],
        }
        answer = self._server.infer(self._path, header, ())
        return read_outputs(self._what, wanted, answer, region, placed)

    @property
    def _path(self) -> str:
        return f"v2/models/{self._model}/infer"

    def _region_of(self, size_bytes: int) -> SharedRegion:
        """Return a region of at least this size that the server has open."""
        if self._region is None or self._region.size_bytes < size_bytes:
            self._release()
            region = self._region = SharedRegion(size_bytes)
            about: Mapping[str, Any] = {"key": region.key, "offset": 0, "byte_size": size_bytes}
            self._server.post(f"v2/systemsharedmemory/region/{region.name}/register", about)
            region.unlink()  # without a name it cannot be left behind, whoever dies first
        return self._region

    def _release(self) -> None:
        """Have the server close our region, and close it."""
        if self._region is not None:
            self._server.forget(f"v2/systemsharedmemory/region/{self._region.name}/unregister")
        self._forget()

    def _forget(self) -> None:
        region, self._region = self._region, None
        if region is not None:
            region.close()


def _is_this_machine(server_url: str) -> bool:
    host = urlsplit(server_url).hostname or ""
    return host in {"localhost", "::1"} or host.startswith("127.")
