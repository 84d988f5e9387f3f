"""A worker process sees its own device and no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.infer.devices import Device, environment_for, may_be_gpu


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, None),
        ("auto", "1", None),
        ("cpu", None, "-1"),
        ("cpu", "0,1", "-1"),
        (0, None, "0"),
        (3, None, "3"),
        (1, "4,7", "7"),
        (0, "GPU-5f3a, GPU-77b1", "GPU-5f3a"),
        (2, "4,7", "-1"),  # there are two: nothing is taken that another worker has
        (0, "", "-1"),  # all were hidden on purpose
    ],
)
def test_the_devices_that_are_left(
    device: Device, visible: str | None, expected: str | None
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    assert environment_for(device, environment).get("CUDA_VISIBLE_DEVICES") == expected


def test_ordinals_are_those_of_nvidia_smi() -> None:
    assert environment_for(0, {})["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


@pytest.mark.parametrize(
    ("device", "has_driver", "expected"),
    [(0, False, True), ("cpu", True, False), ("auto", True, True), ("auto", False, False)],
)
def test_a_runtime_may_take_a_gpu(
    device: Device, has_driver: bool, expected: bool, tmp_path: Path
) -> None:
    driver = tmp_path / "nvidiactl"
    if has_driver:
        driver.touch()
    assert may_be_gpu(device, driver) is expected
