"""Which TensorRT is here: the module, found when it is first wanted, with our logger."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from typing import Any, cast

from dicom_node.errors import DeviceFull, DicomNodeError, EngineError
from dicom_node.infer.plans.api import TensorRt
from dicom_node.infer.plans.messages import Heard, Messages, make_logger

Import = Callable[[str], Any]

MODULES = ("tensorrt", "tensorrt_rtx")
"""In the order in which they are looked for."""

_MEMORY = re.compile(r"out[ _]?of[ _]?memory|insufficient memory", re.IGNORECASE)
_TITLES = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


class Library:
    """A TensorRT, and what it has said.

    One logger lives as long as the process: TensorRT keeps the first that it is given.
    """

    def __init__(self, trt: TensorRt) -> None:
        self.trt = trt
        self.messages = Messages()
        self.logger = make_logger(trt, self.messages)
        self.flavour = f"{trt.__name__} {trt.__version__}"
        self.title = f"{_TITLES.get(trt.__name__, trt.__name__)} {trt.__version__}"
        self.keeps_timings = trt.__name__ != "tensorrt_rtx"
        """Whether a build leaves measurements for the next one; TensorRT-RTX measures nothing."""

    @contextmanager
    def working(self, what: str) -> Iterator[Heard]:
        """Listen to what TensorRT says, and translate what it raises.

        Raises
        ------
        EngineError
            If it raises anything: a wrong argument, a name that this version does not have.
        """
        with self.messages.listening() as heard:
            try:
                yield heard
            except DicomNodeError:
                raise
            except Exception as error:
                raise self.failure(what, (*heard.errors, str(error))) from error

    def failure(
        self, what: str, errors: Iterable[str], kind: type[EngineError] = EngineError
    ) -> EngineError:
        """Return the error of something that it did not do, told by its own words.

        Returns
        -------
        EngineError
            `DeviceFull` where memory was lacking.
        """
        told = [words for words in errors if words]
        message = f"{what}: {'; '.join(told) or f'{self.title} does not say why'}"
        if any(_MEMORY.search(words) for words in told):
            return DeviceFull(
                message, hint="give the GPU fewer engines, or the engine smaller windows or batches"
            )
        return kind(message)


def import_library(imports: Import = import_module) -> Library:
    """Return the TensorRT of this machine.

    Raises
    ------
    EngineError
        If none can be imported, with the reason of each module.
    """
    reasons = []
    for name in MODULES:
        try:
            return Library(cast("TensorRt", imports(name)))
        except (ImportError, OSError, AttributeError, RuntimeError) as error:
            told = str(error).splitlines() or [type(error).__name__]
            reasons.append(f"{name}: {told[0]}")
    raise EngineError(
        f"no TensorRT can be imported ({'; '.join(reasons)})",
        hint="install tensorrt under NVIDIA's licence; docs/engines.md says how",
    )


@cache
def the_library() -> Library:
    """Return the TensorRT of this process, imported once."""
    return import_library()
