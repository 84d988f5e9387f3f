"""Whatever a runtime raises comes out as ours."""

from __future__ import annotations

import pytest

from dicom_node.errors import EngineError, EngineUnavailable
from dicom_node.infer.runtimes.failures import translated

FROM_OPENVINO = """\
Exception from src/inference/src/cpp/core.cpp:132:
Exception from src/inference/src/dev/plugin.cpp:59:
Check 'false' failed at src/frontends/common_translators/src/unconverted_ops_report.cpp:151:
FrontEnd API failed with OpConversionFailure:
Model wasn't fully converted.
Summary:
-- No conversion rule found for operations: org.example.Unheard
"""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("Failed to allocate memory for requested buffer of size 9"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_too_little_memory_may_be_tried_again(error: Exception) -> None:
    with pytest.raises(EngineUnavailable, match="x: out of memory") as refusal, translated("x"):
        raise error
    assert refusal.value.retryable


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("the first line\nthe second"), "x: the first line"),
        (KeyError(), "x: KeyError"),
        (
            RuntimeError(FROM_OPENVINO),
            "x: No conversion rule found for operations: org.example.Unheard",
        ),
        (RuntimeError("Exception from src/a.cpp:1:\n"), "x: Exception from src/a.cpp:1:"),
    ],
)
def test_everything_else_is_told_in_one_line(error: Exception, words: str) -> None:
    with pytest.raises(EngineError) as failure, translated("x"):
        raise error
    assert failure.value.message == words
    assert not failure.value.retryable


def test_what_is_ours_already_stays_as_it_is() -> None:
    with pytest.raises(EngineUnavailable, match=r"^busy$"), translated("x"):
        raise EngineUnavailable("busy")
