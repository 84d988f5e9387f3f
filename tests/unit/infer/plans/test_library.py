"""Which TensorRT is found, and what is heard of it."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from dicom_node.errors import DeviceFull, EngineError, StudyUnusable
from dicom_node.infer.plans.library import Library, import_library
from dicom_node.infer.plans.messages import Messages
from tests.stand_in_tensorrt import Faults, make_tensorrt


def having(*names: str) -> Any:
    """Return an import that finds these modules and no others."""

    def find(name: str) -> Any:
        if name not in names:
            raise ImportError(f"lib{name}.so: cannot open shared object file\nmore")
        return make_tensorrt(name=name)

    return find


@pytest.mark.parametrize(
    ("there", "title"),
    [
        (("tensorrt", "tensorrt_rtx"), "TensorRT 11.4.0.106"),
        (("tensorrt_rtx",), "TensorRT-RTX 11.4.0.106"),
    ],
)
def test_the_full_one_is_taken_before_that_for_workstations(
    there: tuple[str, ...], title: str
) -> None:
    library = import_library(having(*there))
    assert library.title == title
    assert library.flavour == f"{there[0]} 11.4.0.106"


def test_where_there_is_none_each_reason_is_told_in_a_line() -> None:
    with pytest.raises(EngineError) as refusal:
        import_library(having())
    assert refusal.value.message == (
        "no TensorRT can be imported (tensorrt: libtensorrt.so: cannot open shared object file; "
        "tensorrt_rtx: libtensorrt_rtx.so: cannot open shared object file)"
    )


def test_nothing_of_the_extra_is_imported_with_the_runtimes_module() -> None:
    script = (
        "import sys; import dicom_node.infer.runtimes.tensorrt;"
        "print([n for n in ('onnx', 'tensorrt', 'tensorrt_rtx', 'pycuda') if n in sys.modules])"
    )
    found = subprocess.check_output([sys.executable, "-c", script], text=True)
    assert found == "[]\n"


def test_errors_and_warnings_are_heard_each_once_and_only_while_listening() -> None:
    messages = Messages()
    messages.hear(1, "before")
    with messages.listening() as heard:
        messages.hear(0, "an internal\n  error")
        messages.hear(2, "a warning")
        messages.hear(2, "a warning")
        messages.hear(3, "information")
        assert heard.errors == ("an internal error",)
        assert heard.warnings == ("an internal error", "a warning")


def test_a_talkative_library_fills_no_memory() -> None:
    messages = Messages()
    with messages.listening() as first:
        for number in range(5000):
            messages.hear(2, f"warning {number}")
        assert len(first.warnings) == 1000
        assert first.warnings[-1] == "warning 4999"
    with messages.listening() as second:
        messages.hear(2, "the last")
        assert second.warnings == ("the last",)


def test_its_own_exceptions_come_out_as_ours_and_ours_as_they_are() -> None:
    faults = Faults()
    library = Library(make_tensorrt(faults=faults))
    library.trt.Runtime(library.logger)

    def fail(error: Exception) -> None:
        with library.working("it cannot"):
            faults.log(1, "out of range")
            raise error

    with pytest.raises(EngineError, match="it cannot: out of range; 5"):
        fail(IndexError("5"))
    with pytest.raises(StudyUnusable, match="ours"):
        fail(StudyUnusable("ours"))
    assert isinstance(library.failure("x", ["CUDA out of memory"]), DeviceFull)
    assert library.failure("x", []).message == "x: TensorRT 11.4.0.106 does not say why"
