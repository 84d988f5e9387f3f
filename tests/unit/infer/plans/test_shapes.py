"""For which shapes a plan is made: those of the manifest, and no others by guess."""

from __future__ import annotations

import pytest

from dicom_node.errors import EngineError
from dicom_node.infer.plans.shapes import covering, plan_shapes
from dicom_node.infer.runtimes.port import Profile

OPEN = {"x": (None, 1, 8, 8)}
PROFILE = Profile((1, 1, 8, 8), (4, 1, 8, 8), (8, 1, 8, 8))


def test_inputs_with_open_axes_get_their_profile() -> None:
    inputs = {**OPEN, "fixed": (1, 3)}
    assert plan_shapes("m.onnx", inputs, {"x": PROFILE}) == {"x": PROFILE}
    fixed = Profile((1, 3), (1, 3), (1, 3))
    assert plan_shapes("m.onnx", inputs, {"x": PROFILE, "fixed": fixed}) == {"x": PROFILE}


@pytest.mark.parametrize(
    ("profiles", "reason"),
    [
        ({}, "m.onnx leaves the shape of x open, any x 1 x 8 x 8, and nothing says"),
        ({"x": PROFILE, "z": PROFILE}, "m.onnx has no input z, but x"),
        ({"x": Profile((1, 1), (1, 1), (1, 1))}, "x is any x 1 x 8 x 8; it cannot be planned"),
        ({"x": Profile((1, 2, 8, 8), (1, 2, 8, 8), (1, 2, 8, 8))}, "for 1 x 2 x 8 x 8, 1 x"),
        ({"x": Profile((4, 1, 8, 8), (1, 1, 8, 8), (8, 1, 8, 8))}, "cannot be planned"),
        ({"x": Profile((1, 1, 8, 8), (8, 1, 8, 8), (4, 1, 8, 8))}, "cannot be planned"),
        ({"x": Profile((0, 1, 8, 8), (1, 1, 8, 8), (4, 1, 8, 8))}, "cannot be planned"),
    ],
)
def test_profiles_that_do_not_fit_are_refused(profiles: dict[str, Profile], reason: str) -> None:
    with pytest.raises(EngineError) as refusal:
        plan_shapes("m.onnx", OPEN, profiles)
    assert reason in refusal.value.message


@pytest.mark.parametrize(
    ("shape", "smallest", "largest"),
    [
        ((4, 1, 8, 8), (1, 1, 8, 8), (8, 1, 8, 8)),
        ((16, 1, 4, 8), (1, 1, 4, 8), (16, 1, 8, 8)),
        ((4, 8), (1, 1, 8, 8), (8, 1, 8, 8)),
    ],
)
def test_a_profile_can_be_widened(
    shape: tuple[int, ...], smallest: tuple[int, ...], largest: tuple[int, ...]
) -> None:
    assert covering(PROFILE, shape) == Profile(smallest, (4, 1, 8, 8), largest)
