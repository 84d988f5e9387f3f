"""What `dicom-node engines new` writes: engine.yaml with each word explained, a card, a licence."""

from __future__ import annotations

from enum import StrEnum

from dicom_node.finding import FindingKind


class Sees(StrEnum):
    """What a network is shown at a time."""

    SLICE = "slice"
    SLAB = "slab"
    WINDOW = "window"
    WHOLE = "whole"
    IMAGE = "image"


def manifest_text(name: str, kind: FindingKind, sees: Sees, digest: str, schema: str) -> str:
    """Return the text of engine.yaml; words that can be left out stand there behind a #."""
    article = "a regression" if kind is FindingKind.REGRESSION else f"a {kind}"
    parts = [
        f"# yaml-language-server: $schema={schema}\n" if schema else "",
        _HEAD.format(name=name, kind=kind, article=article, does=_does(kind, sees)),
        _ACCEPTS_IMAGES if sees is Sees.IMAGE else _ACCEPTS_SLICES,
        _MODEL.format(digest=digest, channels=_CHANNELS[kind]),
        _INTENSITY_IMAGES if sees is Sees.IMAGE else _INTENSITY_SLICES,
        _IMAGE if sees is Sees.IMAGE else _volume(kind, sees),
        _segments(sees) if kind is FindingKind.SEGMENTATION else _OUTPUTS[kind],
        _TEST_VECTOR,
    ]
    return "\n".join(part for part in parts if part)


def _volume(kind: FindingKind, sees: Sees) -> str:
    own = {
        Sees.SLAB: _SLAB,
        Sees.WINDOW: _WINDOW,
    }.get(sees, "")
    series = "" if kind is FindingKind.SEGMENTATION else _OF_SERIES
    return _VOLUME.format(sees=sees) + own + series


def _does(kind: FindingKind, sees: Sees) -> str:
    if kind is FindingKind.SEGMENTATION:
        is_image = sees is Sees.IMAGE
        return "Draws what is bright." if is_image else "Draws what is denser than -300 HU."
    return _DOES[kind]


def _segments(sees: Sees) -> str:
    is_image = sees is Sees.IMAGE
    return _SEGMENTS + (_CLEANED_IMAGES if is_image else _CLEANED_VOLUMES)


_DOES = {
    FindingKind.CLASSIFICATION: "Says whether an image is bright.",
    FindingKind.QUALITY: "Says whether an image is too dark or too bright.",
    FindingKind.REGRESSION: "Says how bright an image is.",
}
_CHANNELS = {
    FindingKind.SEGMENTATION: "channel 0 is the background",
    FindingKind.CLASSIFICATION: "0 dark, 1 bright",
    FindingKind.QUALITY: "0 dark, 1 bright",
    FindingKind.REGRESSION: "one number",
}

_HEAD = """\
# {article} engine that runs as it stands; change it piece by piece. Each word is explained beside
# it, docs/engines.md says more. What stands behind a # can be left out; it shows how it is written.

name: {name}  # the folder's name: small letters, digits and _
version: 0.1.0  # a new one for every change that can change an answer
title: A new engine  # a few words, up to 64 characters, for reports
kind: {kind}  # segmentation, classification, quality or regression
description: >-  # a paragraph for the report: what it does, on what it was trained, how good it is
  {does} Written as a beginning; not trained on anything.
limits:  # sentences that every report repeats
  - A template, not a medical device.
"""

_ACCEPTS_IMAGES = """\
accepts:  # conditions on each image; all must hold. Be strict: a rule can be wrong
  Modality: [CR, DX]  # one of these
  # BodyPartExamined: CHEST
  # ViewPosition: [PA, AP]
"""

_ACCEPTS_SLICES = """\
accepts:  # conditions on the series; all must hold. Be strict: a rule can be wrong
  Modality: CT
  # SliceThickness: "<= 5"  # <, <=, >, >=, or a range: "1 .. 5"
  # SeriesDescription: "/lung|thorax/"  # a regular expression, found anywhere
  # instance_count: ">= 10"  # ours: how many images the series has
"""

_MODEL = """\
model:
  file: model.onnx  # in this folder
  sha256: {digest}  # sha256sum model.onnx
  input: image  # the name of the network's input
  output: answer  # and of its output: {channels}
  gives: probabilities  # or logits; or labels: one number a voxel
  # classes_are: exclusive  # one class a voxel (softmax); independent: each by itself (sigmoid)
  # mirrors: [[1], [2]]  # flips of which the answers are averaged, by axis of the tensor
  # ensemble: [{{file: second.onnx, sha256: ...}}]  # more networks, their answers averaged
  # precisions: [fp32, fp16]  # in which it is good enough
"""

_INTENSITY_SLICES = """\
intensity:
  values: hounsfield  # CT numbers; brightness: rescaled, larger is brighter
  clip: [-1024, 3071]  # before anything is averaged: what scanners fill in outside their field
  # scale: {low: -1000, high: p99.5, to: [0, 1], clip: true}  # two levels become two numbers
"""

_INTENSITY_IMAGES = """\
intensity:
  values: brightness  # rescaled, larger is brighter, whatever MONOCHROME says; or hounsfield
  # clip: [0, 4095]  # before anything is averaged
  scale: {low: p1, high: p99, to: [0, 1], clip: true}  # two levels, or percentiles, become numbers
"""

_IMAGE = """\
image:
  size: [64, 64]  # rows and columns that the network sees
  field: central square  # or whole: stretched
  pixels_min: 64  # rows and columns that an image must have
"""

_VOLUME = """\
volume:
  network_sees: {sees}  # slice, slab (neighbours as channels), window (a part at a time), whole
  axes: HPL  # where slices, rows and columns point: to the head, to the back, to the left
  spacing_mm: [null, null, null]  # along these axes; null keeps the series' own
  # size: [null, 512, 512]  # voxels along these axes; null: as many as there are
  # size_multiple: 16  # of which a size that is null is made
  # grow_max: 1.25  # how many times larger voxels may become so that all fits into size
  pad: -1024  # the value around a smaller field of view
  # oblique_max_degrees: 20  # between the series' axes and those of the body
  # slices_min: 10  # a shorter series is refused
  # slice_spacing_mm: [0.3, 10]  # others are refused
  # pixel_spacing_mm: [0.3, 1.5]
  # extent_min_mm: [100, 200, 200]  # the least field of view along the axes
  # time_points: all  # of a series with several at the same places; or first, last, refuse
  # time_points_max: 50  # each has its own results; a series with more is refused
"""

_SLAB = """\
  slab_slices: 3  # an odd number; the middle one is asked about
"""

_WINDOW = """\
  window:
    size: [16, 32, 32]  # voxels along the axes
    overlap: 0.5  # the least share of a side in common with the next
    weights: gaussian  # the rim of a window counts less; or constant
    # skip_below: -500  # a window in which no voxel reaches this is background: air
"""

_OF_SERIES = """\
  # take: {part: [0.25, 0.75], at_most: 8}  # which slices are asked about
  # combine: mean  # what several answers about one series are together; or max
"""

_SEGMENTS = """\
segments:  # the first gets Segment Number 1
  - label: 1  # the network's number for it, or its channel
    name: Body
    category: [91723000, SCT, Anatomical Structure]  # [value, scheme, meaning], of CID 7150
    type: [38266002, SCT, Entire body]
    # modifier: [24028007, SCT, Right]  # laterality
    # threshold: 0.5  # from which probability, where classes are independent
    # components: {keep: 2}  # where it differs from the other segments
"""

_CLEANED_VOLUMES = """
components:  # what is left of the mask, in this order
  # smooth_mm: 1.0  # neighbours vote, weighted by a Gaussian
  # component_min_ml: 0.1  # a smaller connected part goes
  keep: largest  # the largest connected part; all; or how many of the largest
  # connectivity: 26  # corners join; 6: only faces do
  volume_min_ml: 0.01  # a segment of which less is left is taken for noise
  # fill_holes: volume  # or slices, each by itself; or none

# volume, count, diameters, longest_diameter, mean_value, voxels
measurements: [volume, mean_value]  # what the report says of each segment, and rules can ask for

# probabilities: true  # how likely each voxel is, beside the mask: for a FRACTIONAL SEG
"""

_CLEANED_IMAGES = """\

components:  # what is left of the mask, in this order
  # component_min_share: 0.001  # of the image; a smaller connected part goes
  keep: largest  # the largest connected part; all; or how many of the largest
  # connectivity: 26  # corners join; 6: only edges do
  share_min: 0.001  # of the image; a segment of which less is left is taken for noise
  # fill_holes: slices  # what a segment encloses becomes part of it; or none

# area, count, diameters, mean_value, voxels
measurements: [area, mean_value]  # what the report says of each segment, and rules can ask for
"""

_CLASSES = """\
classes:
  - index: 1  # which output, from 0
    name: bright
    code: [BRIGHT, 99LOCAL, Bright image]  # the disease: [233604007, SCT, Pneumonia]
    threshold: 0.5  # from this probability it is present
"""

_FAULTS = """\
faults:  # the worst gives the grade
  - index: 0  # which output, from 0
    name: too dark
    limited: 0.9  # from this probability it is reported, and the image is Limited
    non_diagnostic: 0.99  # from this one it is not diagnostic
  - {index: 1, name: too bright, limited: 0.9, non_diagnostic: 0.99}

# notes: [{index: 1, name: bright, otherwise: dark}]  # outputs that do not count; from 0.5, below
"""

_VALUES = """\
values:
  - index: 0  # which output, from 0
    name: Brightness
    code: [BRIGHTNESS, 99LOCAL, Mean brightness]  # what it is: [value, scheme, meaning]
    unit: [1, UCUM, no units]  # of UCUM: [mo, UCUM, month]
    factor: 1.0  # the number is the output times factor plus offset
    offset: 0.0
    # plausible: [0, 216]  # an image that gets another number is refused
"""

_OUTPUTS = {
    FindingKind.CLASSIFICATION: _CLASSES,
    FindingKind.QUALITY: _FAULTS,
    FindingKind.REGRESSION: _VALUES,
}

_TEST_VECTOR = """\
test_vector:  # an input and the output that the network gave; compared whenever it is loaded
  file: test_vector.npz  # NumPy arrays input and output
  tolerance: 0.001  # largest difference of a number; for labels the largest share that differs
  # dice_min: 0.999  # least overlap of any class of a mask; not compared if left out
  # flips_max: 0.0005  # largest share of images or voxels that get another class; likewise
"""

CARD = """\
# {name}

Not a medical device. A template: nothing was trained and nothing was measured.

* **Does**: what goes in, what comes out.
* **Trained on**: data, years, scanners, who drew the reference.
* **Figures**: on which data, with which spread.
* **Limits**: whom it was not tested on, when it fails.
"""

LICENCE = """\
The licence of the weights stands here. The network that came with this template is in the public
domain.
"""
