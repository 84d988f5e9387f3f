"""How long each stage took on the device, told by events on its streams."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dicom_node.infer.gpu.device import Device
from dicom_node.infer.gpu.resources import Event, Stream


class Stages:
    """Milliseconds by stage, added up over all its parts; stages on two streams may overlap.

    Parameters
    ----------
    device : Device
    is_measuring : bool
        Else nothing is recorded, and every total is missing.
    """

    def __init__(self, device: Device, *, is_measuring: bool) -> None:
        self._device = device
        self._is_measuring = is_measuring
        self._parts: list[tuple[str, Event, Event]] = []

    @contextmanager
    def timed(self, name: str, stream: Stream) -> Iterator[None]:
        """Measure what is put on a stream."""
        if not self._is_measuring:
            yield
            return
        begin, end = self._device.event(), self._device.event()
        self._parts.append((name, begin, end))
        begin.record(stream)
        yield
        end.record(stream)

    def totals_ms(self) -> dict[str, float]:
        """Return the time of each stage; all streams must be done."""
        totals: dict[str, float] = {}
        for name, begin, end in self._parts:
            totals[name] = totals.get(name, 0.0) + end.ms_since(begin)
        return totals

    def free(self) -> None:
        """Free the events."""
        for _, begin, end in self._parts:
            begin.free()
            end.free()
        self._parts.clear()
