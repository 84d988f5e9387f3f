"""An engine: a folder, loaded once, that turns the files of one series into a Finding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from dicom_node.errors import EngineError, StudyUnusable
from dicom_node.finding import Classification, EngineIdentity, Finding, FindingKind, Quality, Value
from dicom_node.headers import Part10
from dicom_node.infer import image_masks, images, segmentation
from dicom_node.infer.accepting import refusals
from dicom_node.infer.answers import (
    classification_summary,
    classified,
    graded,
    outputs_of_volume,
    quality_summary,
)
from dicom_node.infer.asking import Networks
from dicom_node.infer.batch import ImageBatch, PreparedImages
from dicom_node.infer.beside import Beside, Others, beside
from dicom_node.infer.blocks import ImageInput
from dicom_node.infer.gate import Parity
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.parameters import told, with_parameters
from dicom_node.infer.path import CpuPath, VolumePath
from dicom_node.infer.probes import probes_of, require_parity
from dicom_node.infer.segmentation import Ground
from dicom_node.infer.series import (
    LeftOut,
    SourceImage,
    SourceSeries,
    SourceVolume,
    is_localizer,
    load_source,
    unfit,
)
from dicom_node.infer.time_points import at_rest, chosen, joined, of_time_point
from dicom_node.infer.values import regressed, value_summary
from dicom_node.infer.volume import Placement, place
from dicom_node.infer.voxels import Voxels, read_voxels

_ONE_MASK = "one image of a series is drawn on, the first that fits"


class Engine:
    """One engine, its networks loaded.

    Parameters
    ----------
    manifest : Manifest
    networks : Networks
        Those that the manifest names.
    parameters : mapping, optional
        What a rule sets of it, by the names of `parameters_of`.
    threads : int
        For what is done on the processor beside the networks.
    path : VolumePath, optional
        What brings volumes through the networks; the processor if it is None.
    parities : sequence of Parity
        How the networks stood against the test vector on a GPU, for the ledger.
    """

    def __init__(
        self,
        manifest: Manifest,
        networks: Networks,
        parameters: Mapping[str, float] | None = None,
        *,
        threads: int = 1,
        path: VolumePath | None = None,
        parities: Sequence[Parity] = (),
    ) -> None:
        self.manifest = with_parameters(manifest, parameters or {})
        self._told = told(parameters or {})
        self.parities = tuple(parities)
        self._networks = networks
        self._path = path or CpuPath(self.manifest, networks)
        self._given_path = path
        self._threads = threads
        self.identity = EngineIdentity(
            name=manifest.name,
            version=manifest.version,
            title=manifest.title,
            description=manifest.description,
            model_digest=manifest.model_digest,
            runtime=networks.main[0].description,
            limits=manifest.limits,
        )

    def run(
        self, files: Sequence[Part10], others: Others | None = None
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Return what the engine finds in one series.

        Parameters
        ----------
        files : sequence of Part10
            The files of the series, in any order.
        others : Others, optional
            The other series of the study and of prior ones, for an engine that has `inputs`.

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
        if self.manifest.image is not None:
            ask = self._segment_image if self.manifest.segments else self._ask_each
            return ask(source, self.manifest.image)
        volumes = self._volumes(source)
        if len(volumes) == 1:
            return self._run_on(volumes[0], others or Others())
        parts: list[Finding] = []
        headers: list[Dataset] = []
        for volume in volumes:  # one after the other: the next one's voxels need the memory
            with of_time_point(volume):
                part, its_own = self._run_on(volume, others or Others())
            parts.append(at_rest(part))
            headers += its_own
        return joined(parts), tuple(headers)

    def _run_on(self, volume: SourceVolume, others: Others) -> tuple[Finding, tuple[Dataset, ...]]:
        """Return what the engine finds in one volume."""
        placement = place(volume.grid, self._path.volume)
        seen = beside(self.manifest, self._path, volume, placement, others, threads=self._threads)
        values = self.manifest.intensity.values
        voxels = read_voxels(volume.images, values, threads=self._threads)
        is_mask = self.manifest.kind is FindingKind.SEGMENTATION
        ask = self._segment if is_mask else self._ask_series
        finding, headers = ask(volume, voxels, placement, seen)
        return replace(finding, time_point=volume.time_point), headers

    def with_parameters(self, parameters: Mapping[str, float]) -> Engine:
        """Return the same engine with other thresholds; its networks are shared."""
        if not parameters:
            return self
        return Engine(
            self.manifest,
            self._networks,
            parameters,
            threads=self._threads,
            path=self._given_path,
        )

    def verify(self) -> None:
        """Compare the networks' answers with those of the test vector.

        Raises
        ------
        EngineError
            If they differ by more than the manifest's tolerance.
        """
        require_parity(self.manifest, probes_of(self.manifest), self._networks)

    def _volumes(self, given: SourceSeries) -> tuple[SourceVolume, ...]:
        source = given.frame_by_frame()  # an engine is told of frames as if each came by itself
        slices = [header for header in source.headers if not is_localizer(header)]
        if reasons := refusals(self.manifest.accepts, slices or source.headers, len(source.images)):
            raise self._not_mine(reasons + sorted({unfit(header) for header in slices} - {""}))
        return chosen(source.volumes(), self._path.volume)

    def _segment(
        self, volume: SourceVolume, voxels: Voxels, placement: Placement, seen: Beside
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        thresholds = self.manifest.given_thresholds
        answer = self._path.classes(voxels, placement, seen.tensors, thresholds)
        found = segmentation.segments_of(
            answer.classes, self.manifest, Ground.of_volume(volume, voxels)
        )
        told = seen.told + _told(volume.left_out)
        return self._drawn(found, volume.images, told, answer.runtime, answer.probabilities)

    def _segment_image(
        self, source: SourceSeries, wanted: ImageInput
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Draw on the first image that fits: the pixels of a projection are those of one image."""
        prepared = self._prepare_each(source, wanted)
        image, *others = prepared.images
        shape = (int(image.header.Rows), int(image.header.Columns))
        main = self._networks.main
        classes = image_masks.classes_on(prepared.tensors[0], shape, self.manifest, main)
        ground = image_masks.ground_of(image, self.manifest)
        found = segmentation.segments_of(classes, self.manifest, ground)
        left_out = [(one.sop_instance_uid, _ONE_MASK) for one in others]
        told = _told(prepared.left_out + tuple(left_out))
        return self._drawn(found, [image], told, main[0].description)

    def _drawn(
        self,
        found: segmentation.Segmentation,
        images_used: Sequence[SourceImage],
        told_besides: tuple[str, ...],
        runtime: str,
        probabilities: NDArray[np.uint8] | None = None,
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        finding = Finding(
            kind=self.manifest.kind,
            engine=replace(self.identity, runtime=runtime),
            sop_instance_uids=tuple(image.sop_instance_uid for image in images_used),
            summary=found.summary,
            warnings=found.warnings + told_besides + self._told,
            mask=found.mask,
            probabilities=probabilities,
            segments=found.segments,
        )
        return finding, tuple(image.header for image in images_used)

    def _ask_series(
        self, volume: SourceVolume, voxels: Voxels, placement: Placement, seen: Beside
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Ask about the series as a whole."""
        said = outputs_of_volume(
            np.stack([self._path.tensor(voxels, placement), *seen.tensors]),
            self._path.volume,
            self.manifest.model,
            self._networks.main,
            self.manifest.input_names,
        )
        return self._answered([("", said)], volume.images, volume.left_out, seen.told)

    def prepare(self, files: Sequence[Part10]) -> PreparedImages:
        """Return the images of one series as the network sees them, each by itself.

        Raises
        ------
        StudyUnusable
            If none of them is what the engine was made for; the message has every reason.
        EngineError
            If the engine looks at volumes, or draws.
        """
        if self.manifest.image is None or self.manifest.segments:
            raise EngineError(f"{self.manifest.name} says nothing of single images")
        return self._prepare_each(load_source(files), self.manifest.image)

    def conclude(
        self, prepared: PreparedImages, answers: Sequence[NDArray[np.float32]]
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Return what the network's answers on prepared images mean; see `run`.

        Parameters
        ----------
        prepared : PreparedImages
        answers : sequence of numpy.ndarray, shape (outputs,), float32
            One for each tensor, as `ImageBatch.alone` gives them.
        """
        manifest, left_out = self.manifest, list(prepared.left_out)
        used: list[SourceImage] = []
        said: list[tuple[str, NDArray[np.float32]]] = []
        for image, answer in zip(prepared.images, answers, strict=True):
            try:
                regressed(image.sop_instance_uid, answer, manifest)  # refuses what cannot be
            except StudyUnusable as refusal:
                left_out.append((image.sop_instance_uid, refusal.message))
            else:
                used.append(image)
                said.append((image.sop_instance_uid, answer))
        if not used:
            raise self._not_mine(list(dict.fromkeys(reason for _, reason in left_out)))
        return self._answered(said, used, tuple(left_out))

    def batch(self, images_max: int) -> ImageBatch:
        """Return what asks this engine's network about images of several series at once."""
        return ImageBatch(self.manifest.model, self._networks.main, images_max)

    def _ask_each(
        self, source: SourceSeries, wanted: ImageInput
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Ask about each image by itself."""
        prepared = self._prepare_each(source, wanted)
        batch = self.batch(1)
        return self.conclude(prepared, [batch.alone(tensor) for tensor in prepared.tensors])

    def _prepare_each(self, source: SourceSeries, wanted: ImageInput) -> PreparedImages:
        used: list[tuple[SourceImage, NDArray[np.float32]]] = []
        left_out: list[tuple[str, str]] = []
        for image in source.images:
            reasons = [unfit(image.header)] if unfit(image.header) else []
            reasons += refusals(self.manifest.accepts, [image.header], len(source.images))
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

    def _answered(
        self,
        said: Sequence[tuple[str, np.ndarray]],
        images_used: Sequence[SourceImage],
        left_out: LeftOut,
        said_beside: tuple[str, ...] = (),
    ) -> tuple[Finding, tuple[Dataset, ...]]:
        """Return the finding of what was said of images, or of the series (no UID)."""
        manifest = self.manifest
        classes = tuple(c for one in said for c in classified(*one, manifest))
        qualities = tuple(graded(*one, manifest) for one in said if manifest.faults)
        values = tuple(value for one in said for value in regressed(*one, manifest))
        finding = Finding(
            kind=manifest.kind,
            engine=self.identity,
            sop_instance_uids=tuple(image.sop_instance_uid for image in images_used),
            summary=_summary(classes, qualities, values),
            warnings=said_beside + _told(left_out) + self._told,
            classifications=classes,
            qualities=qualities,
            values=values,
        )
        return finding, tuple(image.header for image in images_used)

    def _not_mine(self, reasons: Sequence[str]) -> StudyUnusable:
        return StudyUnusable(
            f"not what {self.manifest.name} was made for: {'; '.join(reasons)}",
            hint="change the rule that chose this engine, or what the sender writes",
        )


def _summary(
    classes: tuple[Classification, ...], qualities: tuple[Quality, ...], values: Sequence[Value]
) -> str:
    if qualities:
        return quality_summary(qualities)
    return value_summary(values) if values else classification_summary(classes)


def _told(left_out: LeftOut) -> tuple[str, ...]:
    """Return one sentence for each reason why instances were left out."""
    counts = Counter(reason for _, reason in left_out)
    return tuple(
        f"{count} {'instance' if count == 1 else 'instances'} left out: {reason}"
        for reason, count in counts.items()
    )
