"""What goes wrong with a CT slice, simulated on one that went well; in Hounsfield units.

Motion is simulated where it happens, between the projections: by the Fourier slice theorem the
projection at an angle is the line at that angle through the Fourier transform of the slice, and a
patient who has moved by p multiplies that line by exp(-2 pi i u.p). So one transform, multiplied by
where the patient was at each angle, is the slice as a scanner reconstructs it that believes that
nobody moved: doubled edges, and streaks along the direction in which the turn began.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from engines.recipes.faults import Image, some_of

FAULTS = ("noisy", "motion", "truncated", "wrong window")
AIR_HU, PAD_HU, HIGHEST_HU = -1000.0, -1024.0, 3071.0
_CLEAN, _SEVERAL = 0.35, 0.1
_BODY_HU = -300.0
_WINDOWS = ((40, 400), (-600, 1500), (300, 1500), (40, 80), (60, 160))
"""Centre and width: soft tissue, lung, bone, brain, liver."""


def with_faults(image: Image, random: np.random.Generator) -> tuple[Image, NDArray[np.float32]]:
    """Return a slice of (rows, columns) with some faults or none, and which it has."""
    image, has = some_of(_SIMULATIONS, _APPLIED, _CLEAN, _SEVERAL, image, random)
    return np.clip(image, PAD_HU, HIGHEST_HU).astype(np.float32), has


def noisy(image: Image, random: np.random.Generator) -> Image:
    """Too little dose: more noise in the body than in air, grained, sometimes in streaks."""
    sd = random.uniform(30, 110)
    grain = (random.uniform(0.0, 0.6),) * 2
    if random.random() < 0.3:  # shoulders and hips: photons starve from side to side
        grain = (0.3, random.uniform(2, 6))
    noise = gaussian_filter(random.normal(0, 1, image.shape), grain)
    within = 0.4 + 0.6 * gaussian_filter((image > _BODY_HU).astype(np.float32), 4)
    noisier: Image = image + sd * noise / noise.std() * within
    return noisier


def motion(image: Image, random: np.random.Generator) -> Image:
    """The patient moved by 2 to 7 pixels while the tube turned: at once, or as one breathes."""
    rows, columns = image.shape
    v = np.fft.fftfreq(rows)[:, None]
    u = np.fft.rfftfreq(columns)[None, :]
    turned = (np.arctan2(v, u) + random.uniform(0, np.pi)) % np.pi / np.pi  # 0 .. 1 of half a turn
    if random.random() < 0.5:
        way = 1 / (1 + np.exp(-(turned - random.uniform(0.3, 0.7)) / 0.03))
    else:
        way = np.sin(np.pi * random.uniform(1, 3) * turned) / 2
    far = random.uniform(2.5, 7)
    direction = random.uniform(0, np.pi)
    ramp = v * np.sin(direction) + u * np.cos(direction)
    spectrum = np.fft.rfft2(image - AIR_HU) * np.exp(-2j * np.pi * ramp * far * way)
    moved: Image = np.fft.irfft2(spectrum, s=image.shape).astype(np.float32)
    return moved + np.float32(AIR_HU)


def truncated(image: Image, random: np.random.Generator) -> Image:
    """The body is wider than the scanned field: cut off by a circle, its rim too bright."""
    body = np.argwhere(image > _BODY_HU)
    if len(body) < image.size // 50:
        body = np.argwhere(np.ones_like(image, bool))
    low, high = np.percentile(body, 2, axis=0), np.percentile(body, 98, axis=0)
    half = (high - low) / 2
    middle = (low + high) / 2 + random.uniform(-0.25, 0.25, 2) * half
    radius = random.uniform(0.55, 0.85) * half.max()
    distance = np.hypot(*(np.indices(image.shape) - middle[:, None, None]))
    rim = random.uniform(150, 700) * np.exp(-(radius - distance) / random.uniform(1.5, 5))
    cut: Image = np.where(distance < radius, image + rim * (image > _BODY_HU), PAD_HU)
    return cut


def wrong_window(image: Image, random: np.random.Generator) -> Image:
    """Values that are not what their header says: windowed for display, or without intercept."""
    kind = random.integers(3)
    if kind == 0:
        return np.maximum(image, AIR_HU) + 1024
    centre, width = _WINDOWS[random.integers(len(_WINDOWS))]
    low, high = centre - width / 2, centre + width / 2
    windowed = np.clip(image, low, high)
    if kind == 1:
        return windowed
    shown: Image = (windowed - low) * np.float32(255 / width)
    return shown


_SIMULATIONS = (noisy, motion, truncated, wrong_window)
_APPLIED = [FAULTS.index(name) for name in ("motion", "noisy", "truncated", "wrong window")]
"""In the order in which they happen."""
