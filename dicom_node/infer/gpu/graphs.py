"""The launches of a network, recorded once and replayed with one call; pycuda has no graphs.

A network is a few hundred launches of kernels that each take microseconds, so putting them on the
stream can take longer than running them. A graph is put there at once. Where the driver or the
network refuses to be recorded, it is enqueued as before.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from dicom_node.errors import DeviceLost, EngineUnavailable
from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.resources import Owned, Stream

_RELAXED = 2
"""CU_STREAM_CAPTURE_MODE_RELAXED: what other threads do is no concern of ours."""


class Graph(Owned):
    """What was put on a stream, to be put there again."""

    def launch(self, stream: Stream) -> None:
        """Put all of it on a stream."""
        status = driver.call("cuGraphLaunch", self._what, ctypes.c_void_p(stream.handle))
        if status != driver.SUCCESS:
            self._device.check_alive(f"a graph could not be launched: error {status}")
            raise EngineUnavailable(f"a graph could not be launched: error {status}")

    def _release(self, what: ctypes.c_void_p) -> None:
        driver.call("cuGraphExecDestroy", what)


def capture(device: Device, stream: Stream, enqueue: Callable[[], None]) -> Graph | None:
    """Return what a function puts on a stream, without doing it; None if it cannot be recorded.

    Raises
    ------
    DeviceLost
        If the device was lost over it.
    """
    handle = ctypes.c_void_p(stream.handle)
    if driver.call("cuStreamBeginCapture_v2", handle, _RELAXED) != driver.SUCCESS:
        device.check_alive("no graph could be begun")
        return None
    graph, executable = ctypes.c_void_p(), ctypes.c_void_p()
    recorded = True
    try:
        with device.capturing():
            enqueue()
    except DeviceLost:
        raise
    except EngineUnavailable:
        recorded = False
    finally:
        # In any case: a stream that is being recorded takes no other work.
        ended = driver.call("cuStreamEndCapture", handle, ctypes.byref(graph)) == driver.SUCCESS
    if not graph:
        device.check_alive("a graph could not be recorded")
        return None
    recorded = (
        recorded
        and ended
        and not driver.call(
            "cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_uint64(0)
        )
    )
    driver.call("cuGraphDestroy", graph)
    if not recorded:
        device.check_alive("a graph could not be recorded")
        return None
    return Graph(device, executable)


class Replay:
    """Puts the same work on a stream again and again: the first time as it is, then as a graph."""

    def __init__(self, device: Device, stream: Stream, enqueue: Callable[[], None]) -> None:
        self._device = device
        self._stream = stream
        self._enqueue = enqueue
        self._is_warm = False
        self._is_refused = False
        self._graph: Graph | None = None

    def __call__(self) -> None:
        """Put it there."""
        if self._is_warm and not self._is_refused and self._graph is None:
            self._graph = capture(self._device, self._stream, self._enqueue)
            self._is_refused = self._graph is None
        if self._graph is not None:
            self._graph.launch(self._stream)
        else:
            self._enqueue()
            self._is_warm = True

    def free(self) -> None:
        """Free the graph."""
        if self._graph is not None:
            self._graph.free()
            self._graph = None
