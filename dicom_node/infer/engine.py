"""An engine: a folder, loaded once, that turns the files of one series into a Finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import EngineIdentity, Finding, FindingKind
from dicom_node.headers import Part10, attributes_of
from dicom_node.infer import images, segmentation
from dicom_node.infer.batch import ImageBatch, PreparedImages
from dicom_node.infer.blocks import ImageInput
from dicom_node.infer.manifest import Manifest, load_manifest
from dicom_node.infer.parameters import told, with_parameters
from dicom_node.infer.runtimes.onnxruntime import OnnxRuntime
from dicom_node.infer.runtimes.port import Runtime
from dicom_node.infer.series import (
    LeftOut,
    SourceImage,
    SourceSeries,
    is_localizer,
    load_source,
    unfit,
)


class Engine:
    """One engine, its networks loaded.

    Parameters
    ----------
    manifest : Manifest
    main, locate : Runtime
        The networks that the manifest names.
    parameters : mapping, optional
        What a rule sets of it, by the names of `parameters_of`.
    """

    def __init__(
        self,
        manifest: Manifest,
        main: Runtime,
        locate: Runtime | None = None,
        parameters: Mapping[str, float] | None = None,
    ) -> None:
        self.manifest = with_parameters(manifest, parameters or {})
        self._told = told(parameters or {})
        self._main = main
        self._locate = locate
        self.identity = EngineIdentity(
            name=manifest.name,
            version=manifest.version,
            title=manifest.title,
            description=manifest.description,
            model_digest=manifest.model_digest,
            runtime=main.description,
            limits=manifest.limits,
        )

    def run(self, files: Sequence[Part10]) -> tuple[Finding, tuple[Dataset, ...]]:
        """Return what the engine finds in one series.

        Parameters
        ----------
        files : sequence of Part10
            The files of the series, in any order.

        Returns
        -------
        finding : Finding
        headers : tuple of pydicom.Dataset
            Of the instances that were used, without pixels, in the order of
            `finding.sop_instance_uids`; for a mask that is the order of its slices.

        Raises
        ------
        StudyUnusable
            If the series is not what the engine was made for; the message has every reason.
        EngineError
            If a network fails.
        """
        source = load_source(files)
        if self.manifest.image is None:
            return self._segment(source)
        return self._ask_each(source, self.manifest.image)

    def with_parameters(self, parameters: Mapping[str, float]) -> Engine:
        """Return the same engine with other thresholds; its networks are shared."""
        if not parameters:
            return self
        return Engine(self.manifest, self._main, self._locate, parameters)

    def verify(self) -> None:
        """Compare the networks' answers with those of the test vector.

        Raises
        ------
        EngineError
            If they differ by more than the manifest's tolerance.
        """
        manifest = self.manifest
        with np.load(manifest.folder / manifest.test_vector.file) as vector:
            given = {name: vector[name] for name in vector.files}
        self._compare(self._main, manifest.model.input, manifest.model.output, given, "output")
        if self._locate and manifest.locate:
            located = manifest.locate
            self._compare(self._locate, located.input, located.output, given, "locate_output")

    def _compare(
        self,
        runtime: Runtime,
        input_name: str,
        output_name: str,
        given: dict[str, np.ndarray],
        expected_name: str,
    ) -> None:
        file, tolerance = self.manifest.test_vector.file, self.manifest.test_vector.tolerance
        if "input" not in given or expected_name not in given:
            raise EngineError(f"{file} needs the arrays input and {expected_name}")
        answer = runtime.run({input_name: given["input"].astype(np.float32)})[output_name]
        expected = given[expected_name]
        if answer.shape != expected.shape:
            raise EngineError(f"{file}: the answer has shape {answer.shape}, not {expected.shape}")
        if answer.dtype.kind in "iu":
            difference = float(np.mean(answer != expected))
        else:
            difference = float(np.abs(answer - expected.astype(np.float32)).max())
        if not difference <= tolerance:
            raise EngineError(
                f"{self.manifest.name} does not give the answers of its test vector on "
                f"{runtime.description}: they differ by {difference:.3g}, more than {tolerance:g}",
                hint="do not use this engine on this machine",
            )

    def _segment(self, source: SourceSeries) -> tuple[Finding, tuple[Dataset, ...]]:
        slices = [header for header in source.headers if not is_localizer(header)]
        if reasons := self._refusals(slices or source.headers, len(source.images)):
            raise self._not_mine(reasons + sorted({unfit(header) for header in slices} - {""}))
        volume = source.volume()
        found = segmentation.segment(volume, self.manifest, self._main, self._locate)
        finding = Finding(
            kind=self.manifest.kind,
            engine=self.identity,
            sop_instance_uids=tuple(image.sop_instance_uid for image in volume.images),
            summary=found.summary,
            warnings=found.warnings + _told(volume.left_out) + self._told,
            mask=found.mask,
            segments=found.segments,
        )
        return finding, tuple(image.header for image in volume.images)

    def prepare(self, files: Sequence[Part10]) -> PreparedImages:
        """Return the images of one series as the network sees them, each by itself.

        Raises
        ------
        StudyUnusable
            If none of them is what the engine was made for; the message has every reason.
        EngineError
            If the engine looks at volumes.
        """
        if self.manifest.image is None:
            raise EngineError(f"{self.manifest.name} does not look at single images")
        return self._prepare_each(load_source(files), self.manifest.image)

    def conclude(
        self, prepared: PreparedImages, answers: Sequence[NDArray[np.float32]]
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Return what the network's answers on prepared images mean; see `run`.

        Parameters
        ----------
        prepared : PreparedImages
        answers : sequence of numpy.ndarray, shape (outputs,), float32
            One for each tensor, as `images.probabilities` gives them.
        """
        said = [(i.sop_instance_uid, a) for i, a in zip(prepared.images, answers, strict=True)]
        classes = tuple(c for one in said for c in images.classified(*one, self.manifest))
        qualities = tuple(
            images.graded(*one, self.manifest) for one in said if self.manifest.faults
        )
        finding = Finding(
            kind=self.manifest.kind,
            engine=self.identity,
            sop_instance_uids=tuple(uid for uid, _ in said),
            summary=images.quality_summary(qualities)
            if self.manifest.kind is FindingKind.QUALITY
            else images.classification_summary(classes),
            warnings=_told(prepared.left_out) + self._told,
            classifications=classes,
            qualities=qualities,
        )
        return finding, tuple(image.header for image in prepared.images)

    def batch(self, images_max: int) -> ImageBatch:
        """Return what asks this engine's network about images of several series at once."""
        return ImageBatch(self.manifest.model, self._main, images_max)

    def _ask_each(
        self, source: SourceSeries, wanted: ImageInput
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        prepared = self._prepare_each(source, wanted)
        model = self.manifest.model
        asked = [images.probabilities(tensor, model, self._main) for tensor in prepared.tensors]
        return self.conclude(prepared, asked)

    def _prepare_each(self, source: SourceSeries, wanted: ImageInput) -> PreparedImages:
        used: list[tuple[SourceImage, NDArray[np.float32]]] = []
        left_out: list[tuple[str, str]] = []
        for image in source.images:
            reasons = [unfit(image.header)] if unfit(image.header) else []
            reasons += self._refusals([image.header], len(source.images))
            try:
                if reasons:
                    raise StudyUnusable("; ".join(reasons))
                used.append((image, images.prepared(image, wanted, self.manifest.intensity)))
            except StudyUnusable as refusal:
                left_out.append((image.sop_instance_uid, refusal.message))
        if not used:
            raise self._not_mine(list(dict.fromkeys(reason for _, reason in left_out)))
        return PreparedImages(
            tuple(image for image, _ in used),
            tuple(tensor for _, tensor in used),
            source.left_out + tuple(left_out),
        )

    def _refusals(self, headers: Sequence[Dataset], instance_count: int) -> list[str]:
        """Return the reason of every condition under `accepts` that does not hold."""
        conditions = self.manifest.accepts
        # Of long series only the elements that are asked for are looked at.
        keywords = {condition.keyword for condition in conditions}
        asked = [Dataset({e.tag: e for e in h if e.keyword in keywords}) for h in headers]
        attributes = {**attributes_of(asked), "instance_count": (str(instance_count),)}
        outcomes = [condition.check(attributes) for condition in conditions]
        return [outcome.reason for outcome in outcomes if not outcome.holds]

    def _not_mine(self, reasons: Sequence[str]) -> StudyUnusable:
        return StudyUnusable(
            f"not what {self.manifest.name} was made for: {'; '.join(reasons)}",
            hint="change the rule that chose this engine, or what the sender writes",
        )


def load_engine(folder: Path, *, threads: int) -> Engine:
    """Return the engine of a folder, its networks loaded and compared with its test vector.

    Parameters
    ----------
    folder : Path
        With `engine.yaml` and the files that it names.
    threads : int
        Threads that a network may use.

    Raises
    ------
    ConfigError
        If the manifest has mistakes.
    EngineError
        If a model file is not the one that the manifest means, cannot be loaded, or does not give
        the answers of the test vector.
    """
    manifest = load_manifest(folder)
    for name, expected in manifest.model_files.items():
        found = sha256((folder / name).read_bytes()).hexdigest()
        if found != expected:
            raise EngineError(
                f"{folder / name} has SHA-256 {found}, but {manifest.name} names {expected}",
                hint="restore the file; a new network needs a new version and digest",
            )
    main = OnnxRuntime(folder / manifest.model.file, threads=threads)
    _check_names(manifest.model.file, main, manifest.model.input, manifest.model.output)
    locate = None
    if manifest.locate:
        locate = OnnxRuntime(folder / manifest.locate.file, threads=threads)
        _check_names(manifest.locate.file, locate, manifest.locate.input, manifest.locate.output)
    engine = Engine(manifest, main, locate)
    # Another processor or runtime must not give other answers unnoticed; it takes a second at most.
    engine.verify()
    return engine


def _check_names(file: str, runtime: Runtime, input_name: str, output_name: str) -> None:
    for kind, name, names in (
        ("input", input_name, runtime.inputs),
        ("output", output_name, runtime.outputs),
    ):
        if name not in names:
            raise EngineError(f"{file} has no {kind} {name}, but {', '.join(names)}")
    if len(runtime.inputs) != 1:
        raise EngineError(f"{file} wants {len(runtime.inputs)} inputs; one is given")


def _told(left_out: LeftOut) -> tuple[str, ...]:
    """Return one sentence for each reason why instances were left out."""
    counts = Counter(reason for _, reason in left_out)
    return tuple(
        f"{count} {'instance' if count == 1 else 'instances'} left out: {reason}"
        for reason, count in counts.items()
    )
