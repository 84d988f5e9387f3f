"""The fake driver fails where a real one does; pycuda is the real one."""

from __future__ import annotations

import ctypes
import faulthandler
import mmap
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.fake_cuda.build import build_driver, build_kernels
from tests.fake_cuda.fake import ANY, ILLEGAL_ADDRESS, OUT_OF_MEMORY, UNKNOWN, FakeCuda, Order

TWICE = """
extern "C" __global__ void twice(const float *in, float *out, int n, float factor) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n)
        out[i] = factor * in[i];
}
extern "C" __global__ void count(const unsigned char *in, unsigned *bins, long long n) {
    long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (i < n)
        atomicAdd(&bins[in[i]], 1u);
}
"""
N = 1024


class Work:
    """pycuda with a context, and a kernel with its buffers."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        driver.init()
        self.context = driver.Device(0).retain_primary_context()
        self.context.push()
        self.module = driver.module_from_buffer(build_kernels(TWICE))
        self.twice = self.module.get_function("twice").prepare("PPif")
        self.host = driver.pagelocked_empty(N, np.float32)
        self.host[:] = np.arange(N)
        self.result = driver.pagelocked_empty(N, np.float32)
        self.source = driver.mem_alloc(4 * N)
        self.target = driver.mem_alloc(4 * N)

    def launch(self, stream: Any, count: int = N) -> None:
        block = (128, 1, 1)
        grid = (-(-count // 128), 1)
        self.twice.prepared_async_call(
            grid, block, stream, int(self.source), int(self.target), count, 2.0
        )

    def close(self) -> None:
        for allocation in (self.source, self.target, self.host.base, self.result.base):
            allocation.free()
        self.context.pop()
        self.context.detach()


@pytest.fixture
def work(cuda: FakeCuda) -> Iterator[Work]:
    import pycuda.driver

    cuda.set(order="late", memory_bytes=1 << 20)
    made = Work(pycuda.driver)
    yield made
    made.close()


# ------------------------------------------------------------ contexts and memory


def test_a_call_without_a_context_is_refused(cuda: FakeCuda) -> None:
    import pycuda.driver as driver

    driver.init()
    with pytest.raises(driver.LogicError, match="invalid device context"):
        driver.mem_alloc(16)


def test_a_context_is_current_in_its_own_thread_only(work: Work) -> None:
    seen: list[str] = []

    def elsewhere() -> None:
        try:
            work.driver.mem_alloc(16)
        except work.driver.LogicError as error:
            seen.append(str(error))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ["invalid device context" in words for words in seen] == [True]


def test_memory_has_an_end_and_says_what_is_left(cuda: FakeCuda, work: Work) -> None:
    free, total = work.driver.mem_get_info()
    assert total - free == cuda.used_bytes() == 8 * N
    with pytest.raises(work.driver.MemoryError):
        work.driver.mem_alloc(free + 1)
    rest = work.driver.mem_alloc(free)
    rest.free()
    assert cuda.used_bytes() == 8 * N


def test_what_nobody_freed_counts_as_leaked(cuda: FakeCuda) -> None:
    import pycuda.driver as driver

    driver.init()
    context = driver.Device(0).retain_primary_context()
    context.push()
    library = ctypes.CDLL("libcuda.so.1")
    address = ctypes.c_uint64()
    assert library.cuMemAlloc_v2(ctypes.byref(address), ctypes.c_size_t(100)) == 0
    context.pop()
    context.detach()
    assert (cuda.leaked_bytes, cuda.used_bytes()) == (100, 0)


def test_devices_are_as_many_as_asked_for(cuda: FakeCuda) -> None:
    import pycuda.driver as driver

    cuda.set(devices=2, memory_bytes=1 << 20)
    driver.init()
    assert [driver.Device(n).name() for n in range(driver.Device.count())] == ["FAKE-0", "FAKE-1"]
    assert driver.Device(1).total_memory() == 1 << 20
    cuda.set(devices=0)
    with pytest.raises(driver.RuntimeError, match="no CUDA-capable device"):
        driver.init()


def test_new_memory_is_not_a_number(work: Work) -> None:
    found = np.empty(N, np.float32)
    work.driver.memcpy_dtoh(found, work.target)
    assert np.isnan(found).all()


# ------------------------------------------------------------ kernels


def test_a_kernel_of_real_cuda_source_computes(work: Work) -> None:
    stream = work.driver.Stream(1)
    work.driver.memcpy_htod_async(work.source, work.host, stream)
    work.launch(stream)
    work.driver.memcpy_dtoh_async(work.result, work.target, stream)
    stream.synchronize()
    assert np.array_equal(work.result, 2 * np.arange(N))


def test_a_kernel_counts_with_atomics(work: Work) -> None:
    count = work.module.get_function("count").prepare("PPq")
    values = np.arange(N, dtype=np.uint32).astype(np.uint8)
    bins = np.zeros(N, np.uint32)
    work.driver.memcpy_htod(work.source, values)
    work.driver.memcpy_htod(work.target, bins)
    count.prepared_call((4, 1), (256, 1, 1), int(work.source), int(work.target), N)
    work.driver.memcpy_dtoh(bins, work.target)
    assert np.array_equal(bins[:256], np.bincount(values, minlength=256))


def test_arguments_of_other_types_are_refused(work: Work) -> None:
    wrong = work.module.get_function("twice").prepare("PPi")
    with pytest.raises(work.driver.LogicError, match="invalid argument"):
        wrong.prepared_call((1, 1), (1, 1, 1), int(work.source), int(work.target), 1)


def test_a_kernel_that_is_not_there_is_not_found(work: Work) -> None:
    with pytest.raises(work.driver.LogicError, match="not found"):
        work.module.get_function("thrice")


def test_an_image_that_is_none_is_refused(work: Work) -> None:
    with pytest.raises(work.driver.LogicError, match="image"):
        work.driver.module_from_buffer(b"\x7fELF and so on\0")


@pytest.mark.filterwarnings("ignore")
def test_a_kernel_that_reads_beyond_its_buffer_breaks_the_device(
    cuda: FakeCuda, work: Work, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = work.driver.Stream(1)
    work.launch(stream, count=100 * N)
    with pytest.raises(work.driver.LogicError, match="illegal memory access"):
        stream.synchronize()
    with pytest.raises(work.driver.LogicError, match="illegal memory access"):
        work.driver.mem_get_info()
    cuda.set()


@pytest.mark.filterwarnings("ignore")
def test_a_fault_is_caught_though_somebody_else_listens_for_faults_by_now(
    cuda: FakeCuda, work: Work, capfd: pytest.CaptureFixture[str]
) -> None:
    stream = work.driver.Stream(1)
    work.launch(stream)
    stream.synchronize()
    faulthandler.disable()
    faulthandler.enable(2)  # as pytest does, at a time of its own
    work.launch(stream, count=100 * N)
    with pytest.raises(work.driver.LogicError, match="illegal memory access"):
        stream.synchronize()
    cuda.set()


class _SignalStack(ctypes.Structure):
    _fields_ = (
        ("address", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size_bytes", ctypes.c_size_t),
    )


@pytest.mark.filterwarnings("ignore")
def test_a_fault_is_caught_though_the_signal_stack_is_gone(
    cuda: FakeCuda, work: Work, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenVINO gives the thread that loads a network one, and frees it with the network."""
    gone = mmap.mmap(-1, 1 << 16)
    address = ctypes.addressof(ctypes.c_char.from_buffer(gone))
    libc, before = ctypes.CDLL(None), _SignalStack()
    stack = _SignalStack(address, 0, 1 << 16)
    assert libc.sigaltstack(ctypes.byref(stack), ctypes.byref(before)) == 0
    try:
        assert libc.mprotect(ctypes.c_void_p(address), ctypes.c_size_t(1 << 16), 0) == 0
        stream = work.driver.Stream(1)
        work.launch(stream, count=100 * N)
        with pytest.raises(work.driver.LogicError, match="illegal memory access"):
            stream.synchronize()
    finally:
        libc.sigaltstack(ctypes.byref(before), None)
    cuda.set()


def test_an_address_is_given_out_once(cuda: FakeCuda, work: Work) -> None:
    first = work.driver.mem_alloc(4 * N)
    freed = int(first)
    first.free()
    second = work.driver.mem_alloc(4 * N)
    assert int(second) != freed
    second.free()


def test_what_is_written_just_behind_a_block_is_noticed(cuda: FakeCuda, work: Work) -> None:
    short = work.driver.mem_alloc(4 * N - 8)
    work.twice.prepared_call((8, 1), (128, 1, 1), int(work.source), int(short), N, 2.0)
    assert cuda.overruns == 0
    short.free()
    assert cuda.overruns == 1
    cuda.set()


# ------------------------------------------------------------ streams


def test_nothing_happens_late_before_somebody_waits(work: Work) -> None:
    stream = work.driver.Stream(1)
    work.result[:] = -1
    work.driver.memcpy_htod_async(work.source, work.host, stream)
    work.driver.memcpy_dtoh_async(work.result, work.source, stream)
    assert (work.result == -1).all()
    assert not stream.is_done()
    stream.synchronize()
    assert np.array_equal(work.result, np.arange(N))
    assert stream.is_done()


@pytest.mark.parametrize("order", ["late copies", "late kernels"])
def test_what_is_late_is_overtaken(order: Order, cuda: FakeCuda, work: Work) -> None:
    cuda.set(order=order)
    copying, running = work.driver.Stream(1), work.driver.Stream(1)
    work.driver.memcpy_htod_async(work.source, work.host, copying)
    work.launch(running)
    copying.synchronize()
    running.synchronize()
    work.driver.memcpy_dtoh(work.result, work.target)
    assert np.array_equal(work.result, 2 * np.arange(N)) == (order == "late kernels")


@pytest.mark.parametrize("waits", [True, False])
def test_a_stream_that_does_not_wait_for_another_finds_nothing_done(
    waits: bool, work: Work
) -> None:
    feeding, running = work.driver.Stream(1), work.driver.Stream(1)
    fed = work.driver.Event()
    work.driver.memcpy_htod_async(work.source, work.host, feeding)
    fed.record(feeding)
    if waits:
        running.wait_for_event(fed)
    work.launch(running)
    work.driver.memcpy_dtoh_async(work.result, work.target, running)
    running.synchronize()
    assert np.array_equal(work.result, 2 * np.arange(N)) == waits
    feeding.synchronize()


def test_a_pinned_buffer_that_is_filled_again_too_early_shows_it(work: Work) -> None:
    stream = work.driver.Stream(1)
    work.driver.memcpy_htod_async(work.source, work.host, stream)
    work.host[:] = 7
    work.driver.memcpy_dtoh_async(work.result, work.source, stream)
    stream.synchronize()
    assert (work.result == 7).all()


def test_a_copy_of_memory_that_is_not_pinned_is_counted(cuda: FakeCuda, work: Work) -> None:
    stream = work.driver.Stream(1)
    work.driver.memcpy_htod_async(work.source, np.zeros(N, np.float32), stream)
    assert cuda.pageable_copies == 1


def test_events_tell_time(work: Work) -> None:
    stream = work.driver.Stream(1)
    first, last = work.driver.Event(), work.driver.Event()
    first.record(stream)
    work.launch(stream)
    last.record(stream)
    assert not last.query()
    last.synchronize()
    assert last.query()
    assert last.time_since(first) > 0


def test_a_function_of_the_host_runs_in_its_turn(cuda: FakeCuda, work: Work) -> None:
    stream = work.driver.Stream(1)
    seen: list[float] = []
    work.driver.memcpy_htod_async(work.source, work.host, stream)
    address = ctypes.c_float * N
    cuda.on_stream(
        stream.handle, lambda: seen.append(address.from_address(int(work.source))[N - 1])
    )
    work.driver.memcpy_htod_async(work.source, work.result, stream)
    assert seen == []
    stream.synchronize()
    assert seen == [N - 1]


# ------------------------------------------------------------ graphs


@pytest.fixture
def library(work: Work) -> ctypes.CDLL:
    return ctypes.CDLL("libcuda.so.1")


def test_graphs_are_not_supported_unless_asked_for(work: Work, library: ctypes.CDLL) -> None:
    stream = work.driver.Stream(1)
    assert library.cuStreamBeginCapture_v2(ctypes.c_void_p(stream.handle), 2) == 801


def test_a_graph_replays_what_was_captured(
    cuda: FakeCuda, work: Work, library: ctypes.CDLL
) -> None:
    cuda.set(order="late", graphs=True)
    stream = work.driver.Stream(1)
    handle = ctypes.c_void_p(stream.handle)
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    assert library.cuStreamBeginCapture_v2(handle, 2) == 0
    work.driver.memcpy_htod_async(work.source, work.host, stream)
    work.launch(stream)
    work.driver.memcpy_dtoh_async(work.result, work.target, stream)
    assert library.cuStreamEndCapture(handle, ctypes.byref(graph)) == 0
    assert (
        library.cuGraphInstantiateWithFlags(ctypes.byref(executable), graph, ctypes.c_uint64(0))
        == 0
    )
    stream.synchronize()
    work.result[:] = -1
    for factor in (1, 3):
        work.host[:] = factor * np.arange(N)
        assert library.cuGraphLaunch(executable, handle) == 0
        stream.synchronize()
        assert np.array_equal(work.result, 2 * factor * np.arange(N))
    assert library.cuGraphExecDestroy(executable) == 0
    assert library.cuGraphDestroy(graph) == 0


def test_waiting_spoils_a_capture(cuda: FakeCuda, work: Work, library: ctypes.CDLL) -> None:
    cuda.set(order="late", graphs=True)
    stream = work.driver.Stream(1)
    handle, graph = ctypes.c_void_p(stream.handle), ctypes.c_void_p()
    assert library.cuStreamBeginCapture_v2(handle, 2) == 0
    with pytest.raises(work.driver.LogicError, match="capturing"):
        stream.synchronize()
    assert library.cuStreamEndCapture(handle, ctypes.byref(graph)) == 901


# ------------------------------------------------------------ injected failures


def test_the_nth_call_of_a_name_fails_and_no_other(cuda: FakeCuda, work: Work) -> None:
    cuda.fail("cuMemAlloc_v2", 2, OUT_OF_MEMORY, times=2)
    work.driver.mem_alloc(16).free()
    with pytest.raises(work.driver.MemoryError):
        work.driver.mem_alloc(16)
    work.driver.mem_alloc(16).free()


def test_the_nth_call_of_any_name_fails(cuda: FakeCuda, work: Work) -> None:
    calls = cuda.calls()
    work.driver.mem_get_info()
    assert cuda.calls() - calls == cuda.calls("cuMemGetInfo_v2") == 1
    cuda.fail(ANY, 2, UNKNOWN)
    work.driver.mem_get_info()
    with pytest.raises(work.driver.Error):
        work.driver.mem_get_info()
    work.driver.mem_get_info()


def test_after_an_illegal_address_nothing_works_until_it_is_mended(
    cuda: FakeCuda, work: Work
) -> None:
    cuda.fail("cuMemGetInfo_v2", 1, ILLEGAL_ADDRESS)
    for _ in range(3):
        with pytest.raises(work.driver.LogicError, match="illegal memory access"):
            work.driver.mem_get_info()
    cuda.set()
    work.driver.mem_get_info()


def test_another_process_takes_it_from_the_environment(cuda: FakeCuda) -> None:
    told = subprocess.run(
        [
            sys.executable,
            "-c",
            "import pycuda.driver as d; d.init(); n = d.Device.count()\n"
            "c = d.Device(2).retain_primary_context(); c.push()\n"
            "print(n, d.mem_get_info())\n"
            "try: d.mem_alloc(1)\n"
            "except d.Error as error: print(type(error).__name__)\n"
            "c.pop(); c.detach()",
        ],
        env={
            **os.environ,
            "LD_LIBRARY_PATH": str(build_driver().parent),
            "FAKE_CUDA_DEVICES": "3",
            "FAKE_CUDA_MEM_MB": "5",
            "FAKE_CUDA_FAIL": "cuMemAlloc_v2:1:1",
        },
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert told.splitlines() == [f"3 ({5 << 20}, {5 << 20})", "LogicError"]
