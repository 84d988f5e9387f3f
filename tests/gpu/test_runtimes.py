"""The contract of runtimes (tests/contract/test_runtimes.py) on a real TensorRT and a real GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest

from dicom_node.infer.gpu import driver
from dicom_node.infer.gpu.device import Device
from dicom_node.infer.runtimes.tensorrt import TensorRtKind
from tests.contract.test_runtimes import (
    Load,
    loading,
    reference,
    test_a_second_run_gives_the_same_bits,
    test_a_test_vector_gets_the_answer_of_its_release,
    test_an_answer_is_not_changed_by_the_next_run,
    test_an_array_need_not_lie_in_one_piece,
    test_another_thread_may_use_it,
    test_every_layer_of_a_textbook_computes_what_keras_computed,
    test_it_may_be_closed_twice,
    test_random_input_gets_the_answer_of_the_reference,
    test_the_ends_are_those_of_the_file,
    test_the_input_is_left_as_it_was,
    test_two_networks_do_not_disturb_each_other,
    test_what_does_not_fit_is_refused_in_words,
    test_what_is_no_model_cannot_be_loaded,
)

__all__ = [
    "reference",
    "test_a_second_run_gives_the_same_bits",
    "test_a_test_vector_gets_the_answer_of_its_release",
    "test_an_answer_is_not_changed_by_the_next_run",
    "test_an_array_need_not_lie_in_one_piece",
    "test_another_thread_may_use_it",
    "test_every_layer_of_a_textbook_computes_what_keras_computed",
    "test_it_may_be_closed_twice",
    "test_random_input_gets_the_answer_of_the_reference",
    "test_the_ends_are_those_of_the_file",
    "test_the_input_is_left_as_it_was",
    "test_two_networks_do_not_disturb_each_other",
    "test_what_does_not_fit_is_refused_in_words",
    "test_what_is_no_model_cannot_be_loaded",
]

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def load() -> Iterator[Load]:
    if lacking := TensorRtKind().missing():
        pytest.skip(lacking)
    if hasattr(driver.library(), "fake_cuda_set"):
        pytest.skip("the driver in this process is the fake one; run tests/gpu by itself")
    with closing(Device()) as device, loading(TensorRtKind(device=lambda ordinal: device)) as load:
        yield load
