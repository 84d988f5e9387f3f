"""Pictures for people: an image as a radiologist sees it, findings painted over it, words under it.

Nothing here is measured or sent to a network. What is shown to a person by a Secondary Capture, by
a PDF or by the demo is drawn by the same few functions, so the same finding looks the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut

Colour = tuple[int, int, int]

# One table for all engines, so that a segment keeps its colour from study to study: hues far
# apart first, because few engines have more than six segments.
_COLOURS: tuple[Colour, ...] = (
    (31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189),
    (140, 86, 75), (227, 119, 194), (188, 189, 34), (23, 190, 207), (255, 221, 87),
    (174, 199, 232), (255, 187, 120), (152, 223, 138), (255, 152, 150), (197, 176, 213),
    (196, 156, 148), (247, 182, 210), (219, 219, 141), (158, 218, 229), (127, 127, 127),
)  # fmt: skip

FONTS = ("DejaVuSansCondensed.ttf", "DejaVuSansCondensed-Bold.ttf")
"""Latin, Greek and Cyrillic; regular and bold."""

_OPACITY = 0.35
_INK: Colour = (235, 235, 235)
_PAPER: Colour = (16, 16, 16)
_WARNING: Colour = (160, 30, 30)
_WINDOWS = {"CT": (40.0, 400.0)}
"""Centre and width where an image tells none: soft tissue."""


@dataclass(frozen=True, eq=False)
class Layer:
    """One segment on one image."""

    mask: NDArray[np.bool_]
    """(rows, columns)."""
    colour: Colour


def segment_colour(segment_number: int) -> Colour:
    """Return the RGB of a segment, by its number in the engine's manifest."""
    return _COLOURS[(segment_number - 1) % len(_COLOURS)]


def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font that this package carries; what a machine has installed changes nothing."""
    return _font(FONTS[bold], size)


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    with as_file(files("dicom_node") / "fonts" / name) as file:
        # The basic layout: whether Raqm is installed must not move a glyph.
        return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def grey_of(image: Dataset, header: Dataset | None = None) -> NDArray[np.uint8]:
    """Return an image as a radiologist sees it: modality and VOI LUT applied, 0 is black.

    Parameters
    ----------
    image : Dataset
        With its pixels; of colours their brightness is shown.
    header : Dataset, optional
        Of a frame of it: (0008,1160) *Referenced Frame Number* says which, without one it is the
        first; rescale and window are the frame's own.

    Returns
    -------
    numpy.ndarray, shape (rows, columns), uint8
    """
    shown = image if header is None else header
    stored = image.pixel_array
    if int(image.get("NumberOfFrames") or 1) > 1:
        stored = stored[int(shown.get("ReferencedFrameNumber") or 1) - 1]
    if int(image.get("SamplesPerPixel", 1)) > 1:
        return np.asarray(Image.fromarray(np.asarray(stored, np.uint8)).convert("L"))
    values = np.asarray(apply_modality_lut(stored, shown), np.float64)
    low, high = _shown_range(values, shown)
    if shown.get("VOILUTSequence"):
        values = np.asarray(apply_voi_lut(values.astype(np.int64), shown), np.float64)
        low, high = float(values.min()), float(values.max())
    brightness = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    if image.get("PhotometricInterpretation") == "MONOCHROME1":
        brightness = 1 - brightness
    return np.asarray(np.rint(255 * brightness), np.uint8)


def _shown_range(values: NDArray[np.float64], image: Dataset) -> tuple[float, float]:
    """Return what is black and what is white: the image's window, else nearly all of its values."""
    window = (_first(image.get("WindowCenter")), _first(image.get("WindowWidth")))
    centre, width = window
    if centre is None or width is None or width <= 0:
        usual = _WINDOWS.get(str(image.get("Modality", "")))
        if usual is None:
            low, high = np.percentile(values, [0.5, 99.5])
            return float(low), float(high)
        centre, width = usual
    return centre - width / 2, centre + width / 2


def _first(value: Any) -> float | None:
    if isinstance(value, MultiValue | list | tuple):
        value = value[0] if value else None
    return None if value in (None, "") else float(value)


def pixel_aspect(image: Dataset) -> float:
    """Return how much taller than wide a pixel is."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        spacing = image.get(keyword)
        if spacing and all(float(mm) > 0 for mm in spacing):
            return float(spacing[0]) / float(spacing[1])
    ratio = image.get("PixelAspectRatio")
    if ratio and all(float(part) > 0 for part in ratio):
        return float(ratio[0]) / float(ratio[1])
    return 1.0


def picture_of(
    grey: NDArray[np.uint8], layers: Sequence[Layer], aspect: float, side: int
) -> Image.Image:
    """Return an image with segments over it: tinted, and outlined so that thin ones are seen.

    Parameters
    ----------
    grey : numpy.ndarray, shape (rows, columns), uint8
    layers : sequence of Layer
        The later ones above the earlier.
    aspect : float
        How much taller than wide a pixel is.
    side : int
        Pixels of the picture's longer side.
    """
    rgb = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
    for layer in layers:
        colour = np.array(layer.colour, np.float32)
        rgb[layer.mask] = (1 - _OPACITY) * rgb[layer.mask] + _OPACITY * colour
    picture = _fitted(Image.fromarray(np.rint(rgb).astype(np.uint8)), aspect, side)
    for layer in layers:
        large = _fitted(Image.fromarray(layer.mask), aspect, side, Image.Resampling.NEAREST)
        picture.paste(layer.colour, mask=Image.fromarray(_edge(np.asarray(large))))
    return picture


def _fitted(
    picture: Image.Image,
    aspect: float,
    side: int,
    resampling: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    width, height = picture.width, picture.height * aspect
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return picture.resize(size, resampling)


def _edge(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the pixels of a mask that touch what is not of it, two pixels wide."""
    inner = mask
    for _ in range(2):
        padded = np.pad(inner, 1)
        around = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        inner = inner & around
    return mask & ~inner


def captioned(
    picture: Image.Image, lines: Sequence[tuple[str, Colour | None]], banner: str = ""
) -> Image.Image:
    """Return a picture with words under it, and a banner of warning above it.

    Parameters
    ----------
    lines : sequence of (str, colour or None)
        A line with a colour has a spot of it in front; long lines are broken.
    banner : str
        White on red, as large as fits.
    """
    size = max(14, picture.width // 40)
    plain, step, indent = font(size), round(size * 1.5), round(size * 1.6)
    broken: list[tuple[str, Colour | None]] = []
    for text, colour in lines:
        first, *more = _broken(text, plain, picture.width - indent - size)
        broken += [(first, colour), *((rest, None) for rest in more)]
    top = round(size * 2.2) if banner else 0
    height = top + picture.height + step * len(broken) + size
    whole = Image.new("RGB", (picture.width, height), _PAPER)
    whole.paste(picture, (0, top))
    draw = ImageDraw.Draw(whole)
    if banner:
        _draw_banner(draw, banner, (picture.width, top), size)
    y = top + picture.height + size // 2
    for text, colour in broken:
        if colour is not None:
            spot = (size // 2, y + size // 4, size // 2 + size * 3 // 4, y + size)
            draw.rectangle(spot, fill=colour)
        draw.text((indent, y), text, font=plain, fill=_INK)
        y += step
    return whole


def _draw_banner(draw: ImageDraw.ImageDraw, text: str, box: tuple[int, int], size: int) -> None:
    width, height = box
    large = round(size * 1.3)
    while large > 8 and font(large, bold=True).getlength(text) > width - size:
        large -= 1
    draw.rectangle((0, 0, width, height - 1), fill=_WARNING)
    place = (width / 2, height / 2)
    draw.text(place, text, font=font(large, bold=True), fill=(255, 255, 255), anchor="mm")


def _broken(text: str, used: ImageFont.FreeTypeFont, width: float) -> list[str]:
    """Return a text in lines that fit; a single word that does not is left as it is."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and used.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
