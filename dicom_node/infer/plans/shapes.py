"""For which shapes of its inputs a plan is made."""

from __future__ import annotations

from collections.abc import Mapping

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.port import Profile, Shape

OpenShape = tuple[int | None, ...]
"""A shape as the ONNX file has it; None is an axis that it leaves open."""


def plan_shapes(
    file: str, inputs: Mapping[str, OpenShape], profiles: Mapping[str, Profile]
) -> dict[str, Profile]:
    """Return the shapes of each input that has an open axis.

    Raises
    ------
    EngineError
        If they are not known, or are not of the network.
    """
    unknown = sorted(set(profiles) - set(inputs))
    if unknown:
        raise EngineError(f"{file} has no input {', '.join(unknown)}, but {', '.join(inputs)}")
    planned = {}
    for name, shape in inputs.items():
        profile = profiles.get(name)
        if profile is not None:
            _check(file, name, shape, profile)
        if None not in shape:
            continue
        if profile is None:
            raise EngineError(
                f"{file} leaves the shape of {name} open, {_in_words(shape)}, and nothing says for "
                "which sizes a plan has to be made"
            )
        planned[name] = profile
    return planned


def covering(profile: Profile, shape: Shape) -> Profile:
    """Return a profile that this shape lies in too, tuned for the same one."""
    if len(shape) != len(profile.usual):
        return profile  # its check will say so
    return Profile(
        smallest=tuple(map(min, profile.smallest, shape)),
        usual=profile.usual,
        largest=tuple(map(max, profile.largest, shape)),
    )


def _check(file: str, name: str, shape: OpenShape, profile: Profile) -> None:
    sides = (profile.smallest, profile.usual, profile.largest)
    fits = all(len(side) == len(shape) for side in sides) and all(
        0 < low <= usual <= high and (axis is None or low == usual == high == axis)
        for axis, low, usual, high in zip(shape, *sides, strict=True)
    )
    if not fits:
        told = ", ".join(_in_words(side) for side in sides)
        raise EngineError(f"{file}: {name} is {_in_words(shape)}; it cannot be planned for {told}")


def _in_words(shape: OpenShape) -> str:
    return " x ".join("any" if side is None else str(side) for side in shape)
