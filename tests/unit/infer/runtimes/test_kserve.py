"""A KServe v2 server: tensors there and back, and every way in which it can let us down."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.runtimes.kserve import KIND, KServe, model_name
from dicom_node.infer.runtimes.port import LoadOptions
from dicom_node.infer.runtimes.shared_memory import SharedRegion
from tests.kserve_server import KServeServer, Manners, kserve_server
from tests.unit.infer.runtimes.models import save_small

X = np.array([[1, 2, 3], [4, 5, 6]], np.float32)


class Serve(Protocol):
    def __call__(self, **manners: Any) -> tuple[KServeServer, KServe]: ...


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_small(tmp_path / "small" / "model.onnx")


@pytest.fixture
def serve(file: Path) -> Iterator[Serve]:
    """Return a function that starts a server with manners, and a runtime on it."""
    with ExitStack() as stack:

        def started(**manners: Any) -> tuple[KServeServer, KServe]:
            server = stack.enter_context(kserve_server({"small": file}, Manners(**manners)))
            runtime = KServe(file, server.url, answer_within_s=5.0)
            stack.callback(runtime.close)
            return server, runtime

        yield started


def assert_right(runtime: KServe, x: np.ndarray = X) -> None:
    answer = runtime.run({"x": x})
    assert list(answer) == ["more", "double"]
    np.testing.assert_array_equal(answer["more"], x + 1)
    np.testing.assert_array_equal(answer["double"], x * 2)
    assert all(array.dtype == np.float32 for array in answer.values())


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("engines/mr_brain/model.onnx", "mr_brain"),
        ("engines/mr_brain/locate.onnx", "mr_brain_locate"),
    ],
)
def test_a_model_is_called_as_its_engine(file: str, name: str) -> None:
    assert model_name(Path(file)) == name


def test_tensors_go_through_shared_memory_on_the_same_machine(serve: Serve) -> None:
    server, runtime = serve()
    assert runtime.description == "kserve fake 1.2 small 1"
    assert (runtime.inputs, runtime.outputs) == (("x",), ("more", "double"))
    assert_right(runtime)
    assert_right(runtime, X[:1])
    assert runtime.shares_memory
    [region] = server.regions
    assert not Path("/dev/shm", region).exists(), "a name would outlive a worker that is killed"
    runtime.close()
    assert server.regions == {}


def test_a_larger_tensor_gets_a_larger_region(serve: Serve) -> None:
    server, runtime = serve()
    assert_right(runtime)
    assert_right(runtime, np.ones((1000, 3), np.float32))
    assert runtime.shares_memory
    assert len(server.regions) == 1


def test_a_server_that_shares_nothing_gets_the_tensors_sent(serve: Serve) -> None:
    server, runtime = serve(shares=False)
    assert_right(runtime)
    assert not runtime.shares_memory
    asked = len(server.requests)
    assert_right(runtime)
    assert server.requests[asked:] == ["v2/models/small/infer"]


def test_a_server_without_the_binary_extension_is_understood(serve: Serve) -> None:
    _, runtime = serve(shares=False, binary=False)
    assert_right(runtime)


def test_a_region_that_the_server_forgot_is_shown_again(serve: Serve) -> None:
    server, runtime = serve()
    assert_right(runtime)
    server.regions.clear()  # as after its restart
    assert_right(runtime)
    assert runtime.shares_memory
    assert len(server.regions) == 1


def test_one_connection_is_kept(serve: Serve) -> None:
    server, runtime = serve(shares=False)
    for _ in range(5):
        assert_right(runtime)
    assert server.connections == 1


def test_a_connection_that_the_server_closed_meanwhile_is_opened_again(serve: Serve) -> None:
    server, runtime = serve(shares=False, close_after_each=True)
    for _ in range(3):
        assert_right(runtime)
    assert server.connections > 3


def test_an_array_need_not_lie_in_one_piece(serve: Serve) -> None:
    _, runtime = serve()
    x = np.arange(12, dtype=np.float32).reshape(4, 3)[::2]
    assert not x.flags.c_contiguous
    assert_right(runtime, x)


def test_two_threads_wait_for_each_other(serve: Serve) -> None:
    _, runtime = serve()

    def ask(value: float) -> None:
        for _ in range(10):
            assert_right(runtime, np.full((2, 3), value, np.float32))

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(ask, range(4))) == [None] * 4


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize(
    ("manners", "words"),
    [
        ({"status": 500}, "the model is not in the mood"),
        ({"status": 503}, "the model is not in the mood"),
        ({"status": 429}, "the model is not in the mood"),
        ({"hang_up": True}, "is gone: Remote end closed connection"),
        ({"truncate": 3}, "is gone: IncompleteRead"),
    ],
)
def test_what_may_pass_is_tried_again_later(
    manners: dict[str, Any], words: str, shares: bool, serve: Serve
) -> None:
    server, runtime = serve(shares=shares)
    assert_right(runtime)
    for name, value in manners.items():
        setattr(server.manners, name, value)
    with pytest.raises(EngineUnavailable, match=words) as failure:
        runtime.run({"x": X})
    assert failure.value.retryable
    server.manners = Manners(shares=shares)
    assert_right(runtime)
    assert runtime.shares_memory is shares


def test_silence_is_not_waited_for(file: Path) -> None:
    silent = threading.Event()
    with kserve_server({"small": file}, Manners(silent=silent)) as server:
        runtime = KServe(file, server.url, answer_within_s=0.1)
        with pytest.raises(EngineUnavailable, match="is gone: no answer in time"):
            runtime.run({"x": X})
        silent.set()
        assert_right(runtime)
        runtime.close()


def test_a_server_that_is_gone_is_tried_again_later(file: Path) -> None:
    with kserve_server({"small": file}) as server:
        runtime = KServe(file, server.url)
        assert_right(runtime)
    runtime.close()
    with pytest.raises(EngineUnavailable, match="Connection refused") as failure:
        runtime.run({"x": X})
    assert "infer.server_url" in failure.value.hint
    with pytest.raises(EngineUnavailable, match="Connection refused"):
        KServe(file, server.url)


@pytest.mark.parametrize("shares", [True, False])
def test_a_refusal_carries_the_servers_words(shares: bool, serve: Serve) -> None:
    _, runtime = serve(status=400, shares=shares)
    with pytest.raises(EngineError, match="the model is not in the mood") as failure:
        runtime.run({"x": X})
    assert not failure.value.retryable


@pytest.mark.parametrize("shares", [True, False])
@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ((2, 4), r"answered float32 \[2, 4\] as more, not float32 \[2, 3\]"),
        ((2, 3, 1), r"answered float32 \[2, 3, 1\] as more"),
        ((0, 3), r"answered float32 \[0, 3\] as more"),
    ],
)
def test_an_answer_of_another_shape_is_refused(
    shape: tuple[int, ...], words: str, shares: bool, serve: Serve
) -> None:
    _, runtime = serve(shape=shape, shares=shares)
    with pytest.raises(EngineError, match=words):
        runtime.run({"x": X})


@pytest.mark.parametrize("shares", [True, False])
def test_an_answer_for_another_batch_is_refused(shares: bool, serve: Serve) -> None:
    """Its file allows any n; but not any other than was asked for."""
    _, runtime = serve(shape=(3, 3), shares=shares)
    with pytest.raises(
        EngineError, match=r"answered float32 \[3, 3\] as more, not float32 \[2, 3\]"
    ):
        runtime.run({"x": X})


def test_an_answer_that_was_not_written_is_not_the_last_one(serve: Serve) -> None:
    server, runtime = serve()
    assert_right(runtime)
    server.manners.forgets = True
    with pytest.raises(EngineError, match="nothing was written to shared memory"):
        runtime.run({"x": X})


def test_an_answer_that_is_none_is_refused(serve: Serve) -> None:
    _, runtime = serve(nonsense=True, shares=False)
    with pytest.raises(EngineError, match="is no JSON"):
        runtime.run({"x": X})


def test_a_model_that_the_server_has_not_is_named(file: Path) -> None:
    with (
        kserve_server({"another": file}) as server,
        pytest.raises(EngineError, match="has no model small: Request for unknown") as failure,
    ):
        KServe(file, server.url)
    assert failure.value.hint == "put small/model.onnx into its model repository as small"


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"inputs": []}, "it has no input x"),
        ({"outputs": []}, "it has no output more"),
        ({"inputs": None}, "cannot be read"),
        (
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 4]}]},
            r"its input x is FP32 \[-1, 4\], ours float32 \[n, 3\]",
        ),
        (
            {"inputs": [{"name": "x", "datatype": "FP16", "shape": [-1, 3]}]},
            r"its input x is FP16 \[-1, 3\]",
        ),
        (
            {
                "inputs": [
                    {"name": name, "datatype": "FP32", "shape": [-1, 3]} for name in ("x", "y")
                ]
            },
            "it also wants the input y",
        ),
    ],
)
def test_another_model_of_the_same_name_is_refused(
    metadata: dict[str, Any], words: str, serve: Serve
) -> None:
    with pytest.raises(EngineError, match=f"is another model than small/model.onnx: .*{words}"):
        serve(metadata=metadata)


def test_a_server_that_is_not_ready_is_tried_again_later(serve: Serve) -> None:
    with pytest.raises(EngineUnavailable, match="is not ready"):
        serve(ready=False)


@pytest.mark.parametrize("url", ["", "host:8000", "ftp://host/"])
def test_what_is_no_url_is_told(url: str, file: Path) -> None:
    with pytest.raises(EngineError, match="is no server's URL") as failure:
        KIND.load(file, LoadOptions(server_url=url))
    assert "infer.server_url" in failure.value.hint


def test_more_shared_memory_than_there_is_is_refused_not_taken() -> None:
    """Written to page by page, it would end the process once it is full."""
    with pytest.raises(OSError, match=r"No space left|too large|Cannot allocate"):
        SharedRegion(2**50)
    assert list(Path("/dev/shm").glob("dicom_node_*")) == []
