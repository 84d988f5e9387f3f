"""Which runtime an engine gets: a table of what is there, what is wished, and what was measured."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from dicom_node.config.settings import Runtime as RuntimeWord
from dicom_node.errors import ConfigError, EngineError
from dicom_node.infer.runtimes.choice import Choice, Speed, Speeds, Wishes, decide, misfits
from dicom_node.infer.runtimes.registry import RUNTIMES
from tests.unit.infer.runtimes.kinds import Kind

NOT_INSTALLED = "openvino is not installed: pip install 'dicom-node[openvino]'"
ALL = {"onnxruntime": "", "openvino": "", "tensorrt": "", "kserve": "", "null": ""}
NO_GPU = ALL | {"tensorrt": "there is no NVIDIA driver"}
PLAIN = NO_GPU | {"openvino": NOT_INSTALLED}
KEPT = Wishes(cache_dir=Path("cache"))


def speeds(refused: dict[str, str] | None = None, **best_ms: float) -> Speeds:
    return Speeds({name: Speed(ms, 1e-6) for name, ms in best_ms.items()}, refused or {})


def decided(
    wishes: Wishes, lacking: dict[str, str], measured: Speeds | None = None, **refused: str
) -> Choice | None:
    return decide("mr_brain", wishes, lacking, measured, refused)


def test_a_gpu_that_is_there_is_taken() -> None:
    assert decided(KEPT, ALL) == Choice("tensorrt", "a GPU is there")


def test_a_gpu_that_was_refused_is_not_and_the_reason_is_kept() -> None:
    choice = decided(KEPT, ALL, speeds(onnxruntime=10, openvino=20), tensorrt="differs by 0.1")
    assert choice is not None
    assert choice.runtime == "onnxruntime"
    assert choice.refused == {"tensorrt": "differs by 0.1"}


def test_what_is_alone_needs_no_measurement() -> None:
    assert decided(KEPT, PLAIN) == Choice("onnxruntime", "the only one here")


def test_two_are_measured_first() -> None:
    assert decided(KEPT, NO_GPU) is None


@pytest.mark.parametrize(
    ("onnxruntime_ms", "openvino_ms", "chosen", "reason"),
    [
        (180.0, 100.0, "openvino", "the fastest: openvino 100.0 ms, onnxruntime 180.0 ms"),
        (120.0, 100.0, "openvino", "the fastest: openvino 100.0 ms, onnxruntime 120.0 ms"),
        (119.0, 100.0, "onnxruntime", "none is 1.2 times and 5 ms faster: openvino 100.0 ms"),
        (100.0, 100.0, "onnxruntime", "100.0 ms"),
        (100.0, 180.0, "onnxruntime", "the fastest: onnxruntime 100.0 ms, openvino 180.0 ms"),
        (15.0, 10.0, "openvino", "the fastest"),
        (14.9, 10.0, "onnxruntime", "none is 1.2 times and 5 ms faster"),
    ],
)
def test_another_than_the_default_must_lead_clearly(
    onnxruntime_ms: float, openvino_ms: float, chosen: str, reason: str
) -> None:
    measured = speeds(onnxruntime=onnxruntime_ms, openvino=openvino_ms)
    choice = decided(KEPT, NO_GPU, measured)
    assert choice is not None
    assert choice.runtime == chosen
    assert reason in choice.reason


def test_the_fastest_is_not_taken_if_its_answers_differ() -> None:
    choice = decided(KEPT, NO_GPU, speeds({"openvino": "differs by 0.3"}, onnxruntime=18.0))
    assert choice is not None
    assert choice.runtime == "onnxruntime"
    assert choice.refused == {"openvino": "differs by 0.3"}


def test_the_default_is_not_taken_either_if_its_answers_differ() -> None:
    choice = decided(KEPT, NO_GPU, speeds({"onnxruntime": "differs"}, openvino=18.0))
    assert choice is not None
    assert choice.runtime == "openvino"


def test_without_a_right_answer_there_is_no_choice() -> None:
    wrong = {"onnxruntime": "differs by 1", "openvino": "differs by 2"}
    with pytest.raises(EngineError, match="differs by 1; openvino: differs by 2"):
        decided(KEPT, NO_GPU, speeds(wrong))


def test_where_nothing_is_kept_the_default_is_taken() -> None:
    """A measurement at each start could choose otherwise each time."""
    choice = decided(Wishes(), NO_GPU)
    assert choice == Choice("onnxruntime", "the default, where no measurement is kept")


@pytest.mark.parametrize("name", ["kserve", "null"])
def test_some_are_never_taken_unasked(name: str) -> None:
    only = dict.fromkeys(ALL, "missing") | {name: "", "onnxruntime": ""}
    assert decided(KEPT, only) == Choice("onnxruntime", "the only one here")
    assert decided(Wishes(runtime=name), only) == Choice(name, "named in the configuration")


def test_a_name_holds_for_all_engines_or_for_one() -> None:
    wishes = Wishes(runtime="onnxruntime", by_engine={"mr_brain": "openvino"})
    assert wishes.of("mr_brain") == "openvino"
    assert wishes.of("ct_lungs") == "onnxruntime"
    assert decided(wishes, ALL) == Choice("openvino", "named in the configuration")


def test_one_engine_may_be_left_to_us() -> None:
    wishes = Wishes(runtime="onnxruntime", by_engine={"mr_brain": "auto"}, cache_dir=Path("cache"))
    assert decided(wishes, ALL) == Choice("tensorrt", "a GPU is there")


def test_a_named_one_that_is_missing_says_who_must_do_what() -> None:
    with pytest.raises(ConfigError, match="mr_brain shall run on openvino") as mistake:
        decided(Wishes(runtime="openvino"), PLAIN)
    assert "pip install 'dicom-node[openvino]'" in mistake.value.message


def test_every_wish_that_cannot_be_fulfilled_is_found() -> None:
    runtimes = {name: Kind(name, lacks=lacks) for name, lacks in PLAIN.items()}
    wishes = Wishes(
        runtime="tensorrt", by_engine={"mr_brain": "openvino", "gone": "auto", "cxr": "null"}
    )
    assert list(misfits(wishes, {"mr_brain": 1, "cxr": 1}, runtimes)) == [
        (("infer", "runtimes", "gone"), "there is no engine of that name"),
        (("infer", "runtime"), "there is no NVIDIA driver"),
        (("infer", "runtimes", "mr_brain"), NOT_INSTALLED),
    ]


def test_the_configuration_knows_the_names_of_the_runtimes() -> None:
    literal, _ = get_args(RuntimeWord)
    assert set(RUNTIMES) <= set(get_args(literal)) - {"auto"}
