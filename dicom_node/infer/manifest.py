"""What an engine says of itself: `engine.yaml` as frozen values.

Every word has its unit and default in docs/engines.md; `engine_folders` reads the file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from dicom_node.finding import FindingKind
from dicom_node.infer.blocks import (
    STRICT,
    Accepts,
    ClassLabel,
    Components,
    ExtraInput,
    FaultLabel,
    ImageInput,
    Intensity,
    Locate,
    Measure,
    Model,
    NoteLabel,
    SegmentLabel,
    TestVector,
    ValueLabel,
    VolumeInput,
)

NAME_PATTERN = r"^[a-z][a-z0-9_]{0,31}$"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Manifest:
    """One engine: what it is, what it takes, how, and what its answers mean."""

    name: Annotated[str, Field(pattern=NAME_PATTERN)]
    version: Annotated[str, Field(pattern=r"^[0-9]+\.[0-9]+\.[0-9]+$")]
    title: Annotated[str, Field(min_length=1, max_length=64)]
    kind: FindingKind
    description: Annotated[str, Field(min_length=1)]
    limits: tuple[str, ...] = ()
    accepts: Accepts
    model: Model
    intensity: Intensity
    test_vector: TestVector
    inputs: tuple[ExtraInput, ...] = ()
    volume: VolumeInput | None = None
    image: ImageInput | None = None
    locate: Locate | None = None
    components: Components = Components()
    measurements: tuple[Measure, ...] | None = None
    """None: the volume; on single images the area."""
    probabilities: bool = False
    segments: tuple[SegmentLabel, ...] = ()
    classes: tuple[ClassLabel, ...] = ()
    faults: tuple[FaultLabel, ...] = ()
    notes: tuple[NoteLabel, ...] = ()
    values: tuple[ValueLabel, ...] = ()
    folder: Path

    @property
    def model_files(self) -> Mapping[str, str]:
        """The SHA-256 that each model file must have, by file name."""
        files = {self.model.file: self.model.sha256}
        files |= {member.file: member.sha256 for member in self.model.ensemble}
        return files | ({self.locate.file: self.locate.sha256} if self.locate else {})

    @property
    def model_digest(self) -> str:
        """That of the model file; of the digests, one after the other, where there are several."""
        digests = list(self.model_files.values())
        return digests[0] if len(digests) == 1 else sha256("".join(digests).encode()).hexdigest()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The network's input of the main series, and of each one beside it."""
        own = self.model.input
        return own, *(extra.input or own for extra in self.inputs)

    @property
    def reads_study(self) -> bool:
        """Whether other series of the study take part in its answer."""
        return any(extra.source == "study" for extra in self.inputs)

    @property
    def reads_priors(self) -> bool:
        """Whether prior studies take part in its answer."""
        return any(extra.source == "prior" for extra in self.inputs)

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What is measured in each segment."""
        if self.measurements is None:
            return ("volume",) if self.image is None else ("area",)
        return self.measurements

    @property
    def given_thresholds(self) -> tuple[float, ...]:
        """Of each channel of independent classes, in the numbers that the network gives.

        Channels that are no segment are never reached.
        """
        thresholds = [math.inf] * max((segment.label for segment in self.segments), default=0)
        for segment in self.segments:
            share = segment.threshold
            if self.model.gives == "logits":
                share = math.log(share / (1 - share)) if 0 < share < 1 else (share - 0.5) * math.inf
            thresholds[segment.label - 1] = share
        return tuple(thresholds)
