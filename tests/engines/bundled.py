"""The networks that come with the node, each with its test vector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dicom_node.infer.parity import Limits, Meaning
from dicom_node.infer.runtimes.port import Profile
from dicom_node.infer.vector import Vector, read_vector

ENGINES = Path(__file__).parents[2] / "engines"


@dataclass(frozen=True)
class Bundled:
    """One network of an engine."""

    name: str
    """Engine and file."""
    input: str
    output: str
    sample: tuple[int, ...]
    """The shape of one sample of its test vector."""
    meaning: Meaning
    limits: Limits
    expected: str = "output"
    """The array of the test vector."""

    def __str__(self) -> str:
        return self.name

    @property
    def file(self) -> Path:
        return ENGINES / self.name

    def vector(self) -> Vector:
        archive = self.file.with_name("test_vector.npz")
        return read_vector(
            archive, {self.input: "input"}, self.output, self.expected, self.meaning, self.limits
        )

    def profile(self, batch_max: int) -> Profile:
        """Return shapes from one sample to some."""
        largest = (batch_max, *self.sample)
        return Profile((1, *self.sample), largest, largest)


CT_LUNGS = Bundled(
    "ct_lungs/model.onnx",
    "image_hu",
    "probabilities",
    (1, 128, 128),
    Meaning.EXCLUSIVE,
    Limits(tolerance=0.002, dice_min=0.999, flips_max=0.0005),
)
CT_QUALITY = Bundled(
    "ct_quality/model.onnx",
    "image_hu",
    "probabilities",
    (1, 128, 128),
    Meaning.PROBABILITIES,
    Limits(tolerance=0.005),
)
CXR_PNEUMONIA = Bundled(
    "cxr_pneumonia/model.onnx",
    "image_0_255",
    "probabilities",
    (1, 28, 28),
    Meaning.EXCLUSIVE,
    Limits(tolerance=0.002),
)
CXR_QUALITY = Bundled(
    "cxr_quality/model.onnx",
    "image_0_255",
    "probabilities",
    (1, 64, 64),
    Meaning.PROBABILITIES,
    Limits(tolerance=0.002),
)
MR_BRAIN = Bundled(
    "mr_brain/model.onnx",
    "t1",
    "labels",
    (1, 52, 52, 52),
    Meaning.LABELS,
    Limits(tolerance=0.001),
)
MR_BRAIN_LOCATE = Bundled(
    "mr_brain/locate.onnx",
    "t1",
    "labels",
    (1, 52, 52, 52),
    Meaning.LABELS,
    Limits(tolerance=0.001),
    expected="locate_output",
)
BUNDLED = (CT_LUNGS, CT_QUALITY, CXR_PNEUMONIA, CXR_QUALITY, MR_BRAIN, MR_BRAIN_LOCATE)
