"""A real Triton answers as our fake does: the same protocol, over the wire and in shared memory.

NVIDIA's wheel of pytriton holds a tritonserver that needs no GPU. It wants an old numpy and so is
no dependency of the tests; unpacked anywhere, it needs that numpy beside it, and Debian's
libpython3.11:

    pip download --no-deps nvidia-pytriton==0.7.0 && unzip nvidia_pytriton-*.whl -d FOLDER
    pip install --target FOLDER/packages 'numpy<2' onnxruntime
    TRITON_FOLDER=FOLDER python -m pytest tests/witness/test_triton.py

The network behind it is the bundled one, on onnxruntime in Triton's Python backend.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.runtimes.kserve import KServe
from dicom_node.infer.runtimes.onnxruntime import OnnxRuntime

pytestmark = pytest.mark.witness

ENGINE = Path(__file__).parents[2] / "engines" / "cxr_quality"
_START_WITHIN_S = 60.0
_PYTHON = "3.11"

CONFIG = """\
name: "cxr_quality"
backend: "python"
max_batch_size: 0
input [{ name: "image_0_255", data_type: TYPE_FP32, dims: [-1, 1, 64, 64] }]
output [{ name: "probabilities", data_type: TYPE_FP32, dims: [-1, 6] }]
instance_group [{ kind: KIND_CPU }]
"""
BACKEND = f"""\
import sys

sys.path.append(PACKAGES)  # the stub leaves PYTHONPATH aside

import numpy
import onnxruntime
import triton_python_backend_utils as triton

class TritonPythonModel:
    def initialize(self, args):
        self.session = onnxruntime.InferenceSession({str(ENGINE / "model.onnx")!r})

    def execute(self, requests):
        answers = []
        for request in requests:
            image = triton.get_input_tensor_by_name(request, "image_0_255").as_numpy()
            found, = self.session.run(["probabilities"], {{"image_0_255": image}})
            tensor = triton.Tensor("probabilities", numpy.ascontiguousarray(found))
            answers.append(triton.InferenceResponse([tensor]))
        return answers
"""


@pytest.fixture(scope="module")
def triton(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Return the URL of a Triton on loopback that has our model."""
    named = os.environ.get("TRITON_FOLDER")
    if not named:
        pytest.skip("TRITON_FOLDER names no unpacked nvidia-pytriton; the module says how")
    if sys.version_info[:2] != (3, 11):
        pytest.skip(f"Triton's Python backend would run this environment's packages in {_PYTHON}")
    unpacked = Path(named).resolve()
    folder = tmp_path_factory.mktemp("triton")
    model = folder / "models" / "cxr_quality" / "1" / "model.py"
    model.parent.mkdir(parents=True)
    model.write_text(f"PACKAGES = {str(unpacked / 'packages')!r}\n{BACKEND}")
    (folder / "models" / "cxr_quality" / "config.pbtxt").write_text(CONFIG)
    program = unpacked / "pytriton" / "tritonserver"
    backend = folder / "backends" / "python"
    shutil.copytree(program / "backends" / "python", backend)
    stub = "triton_python_backend_stub"
    shutil.copy(program / "python_backend_stubs" / _PYTHON / stub, backend / stub)
    for file in (backend / stub, program / "bin" / "tritonserver"):
        file.chmod(0o755)
    ports = [free_port() for _ in range(2)]
    command: list[str | Path] = [
        program / "bin" / "tritonserver",
        f"--model-repository={folder / 'models'}",
        f"--backend-directory={folder / 'backends'}",
        "--http-address=127.0.0.1",
        f"--http-port={ports[0]}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=3",
        f"--backend-config=python,shm-region-prefix-name=triton{ports[1]}",
    ]
    libraries = f"{unpacked / 'nvidia_pytriton.libs'}:/usr/lib/x86_64-linux-gnu"
    environment = os.environ | {"LD_LIBRARY_PATH": libraries}
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{ports[0]}"
        wait_until_ready(url, server, folder / "log")
        yield url
    finally:
        server.terminate()
        server.wait(30)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    give_up_at = time.monotonic() + _START_WITHIN_S
    while time.monotonic() < give_up_at and server.poll() is None:
        try:
            KServe(ENGINE / "model.onnx", url).close()
        except EngineUnavailable:
            time.sleep(0.1)
        else:
            return
    pytest.fail(f"Triton did not become ready:\n{log.read_text(errors='replace')}")


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(4).uniform(0, 255, (5, 1, 64, 64)).astype(np.float32)


@pytest.mark.parametrize("shares", [True, False])
def test_triton_answers_what_onnxruntime_does(
    shares: bool, triton: str, images: np.ndarray
) -> None:
    here = OnnxRuntime(ENGINE / "model.onnx", threads=1)
    there = KServe(ENGINE / "model.onnx", triton, shares_memory=shares)
    for batch in (5, 1, 2):
        expected = here.run({"image_0_255": images[:batch]})["probabilities"]
        answer = there.run({"image_0_255": images[:batch]})["probabilities"]
        np.testing.assert_allclose(answer, expected, atol=1e-6)
    assert there.shares_memory is shares, "else it was not shared memory that answered"
    assert there.description.startswith("kserve triton 2.")
    assert there.description.endswith(" cxr_quality 1")
    there.close()


def test_a_model_that_triton_has_not_is_told_in_its_words(triton: str) -> None:
    other = ENGINE.parent / "cxr_pneumonia" / "model.onnx"
    with pytest.raises(EngineError, match="has no model cxr_pneumonia: Request for unknown model"):
        KServe(other, triton)
