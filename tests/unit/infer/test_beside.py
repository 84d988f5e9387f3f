"""A network that sees several series sees them voxel upon voxel, or says which one is missing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.errors import StudyUnusable
from dicom_node.infer.asking import Networks
from dicom_node.infer.beside import Others
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_folders import load_manifest
from tests.factories import CORONAL, make_ct_series, write_series
from tests.unit.infer.engine_folders import SEGMENTATION, write_engine

FLAIR = {"name": "flair", "accepts": {"SeriesDescription": "/flair/"}}
PRIOR = {"name": "before", "source": "prior", "accepts": {"Modality": "CT"}, "needed": False}
CENTRE_MM = np.array([2.0, -3.0, 8.0])
RADIUS_MM = 9.0


def ball(
    spacing_mm: tuple[float, float, float],
    origin_mm: tuple[float, float, float],
    shape: tuple[int, int, int],
) -> NDArray[np.int16]:
    """Return an upright axial series of a ball of 0 HU in air, at its place in the patient."""
    at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), axis=-1)
    lps = (at * spacing_mm)[..., ::-1] + origin_mm
    inside = np.linalg.norm(lps - CENTRE_MM, axis=-1) < RADIUS_MM
    return np.where(inside, 0, -1000).astype(np.int16)


def series(folder: Path, uid: str, description: str = "", **geometry: Any) -> list[Path]:
    spacing = geometry.pop("spacing_mm", (2.0, 1.0, 1.0))
    origin = geometry.pop("origin_mm", (-20.0, -20.0, -10.0))
    pixels = ball(spacing, origin, geometry.pop("shape", (20, 40, 40)))
    made = make_ct_series(
        pixels=pixels,
        spacing_mm=spacing,
        origin_mm=origin,
        SeriesInstanceUID=uid,
        SeriesDescription=description,
        **geometry,
    )
    for number, instance in enumerate(made):
        instance.SOPInstanceUID = f"{uid}.{number}"
        instance.file_meta.MediaStorageSOPInstanceUID = instance.SOPInstanceUID
    return write_series(made, folder / uid)


class Seeing:
    """A network of several inputs that remembers what it was shown, and finds nothing."""

    description = "a function"
    outputs = ("y",)

    def __init__(self, *inputs: str) -> None:
        self.inputs = inputs
        self.given: Mapping[str, NDArray[Any]] = {}

    def run(self, inputs: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        self.given = inputs
        shape = next(iter(inputs.values())).shape
        return {"y": np.zeros((1, 2, *shape[2:]), np.float32)}

    def close(self) -> None:
        """Nothing is held."""


def engine(tmp_path: Path, network: Seeing, *inputs: dict[str, Any]) -> Engine:
    folder = write_engine(tmp_path / "engines", SEGMENTATION, inputs=list(inputs))
    return Engine(load_manifest(folder), Networks((network,)))


def test_a_series_of_another_grid_lies_voxel_upon_voxel(tmp_path: Path) -> None:
    network = Seeing("x")
    flair = series(
        tmp_path,
        "1.2.9",
        "Ax FLAIR",
        spacing_mm=(3.0, 0.8, 0.8),
        origin_mm=(-25.0, -24.0, -13.0),
        shape=(18, 60, 60),
    )
    finding, _ = engine(tmp_path, network, FLAIR).run(
        series(tmp_path, "1.2.1"), Others(study=[series(tmp_path, "1.2.8", "T2"), flair])
    )
    main, beside = network.given["x"][0]
    assert network.given["x"].shape == (1, 2, 40, 40, 40)
    balls = [values > -500 for values in (main, beside)]
    overlap = 2 * np.count_nonzero(balls[0] & balls[1]) / sum(map(np.count_nonzero, balls))
    assert overlap > 0.93
    centres = [np.argwhere(one).mean(axis=0) for one in balls]
    assert np.abs(centres[0] - centres[1]).max() < 0.3  # voxels of 1 mm
    assert "flair is series 1.2.9" in finding.warnings


def test_a_series_that_is_stored_the_other_way_round_lies_alike(tmp_path: Path) -> None:
    network = Seeing("x")
    prone = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0)
    made = series(tmp_path, "1.2.9", "FLAIR")
    turned = make_ct_series(
        pixels=ball((2, 1, 1), (-20, -20, -10), (20, 40, 40))[:, ::-1, ::-1],
        spacing_mm=(2.0, 1.0, 1.0),
        origin_mm=(19.0, 19.0, -10.0),
        orientation=prone,
        SeriesInstanceUID="1.2.7",
        SeriesDescription="FLAIR",
    )
    run = engine(tmp_path, network, FLAIR).run
    run(series(tmp_path, "1.2.1"), Others(study=[made]))
    upright = network.given["x"]
    run(series(tmp_path, "1.2.1"), Others(study=[write_series(turned, tmp_path / "turned")]))
    np.testing.assert_allclose(network.given["x"], upright, atol=1e-3)


def test_inputs_of_their_own_are_tensors_of_their_own(tmp_path: Path) -> None:
    network = Seeing("x", "x2")
    run = engine(tmp_path, network, FLAIR | {"input": "x2"}).run
    run(series(tmp_path, "1.2.1"), Others(study=[series(tmp_path, "1.2.9", "FLAIR")]))
    assert {name: one.shape for name, one in network.given.items()} == {
        "x": (1, 1, 40, 40, 40),
        "x2": (1, 1, 40, 40, 40),
    }
    assert np.array_equal(network.given["x"], network.given["x2"])


def test_a_prior_study_is_centred_upon_the_current_one(tmp_path: Path) -> None:
    network = Seeing("x")
    prior = series(tmp_path, "1.3.1", FrameOfReferenceUID="1.9", origin_mm=(80.0, -20.0, -10.0))
    moved = make_ct_series(
        pixels=ball((2, 1, 1), (-20, -20, -10), (20, 40, 40)),
        origin_mm=(80.0, -20.0, 500.0),
        FrameOfReferenceUID="1.9",
        SeriesInstanceUID="1.3.2",
    )
    run = engine(tmp_path, network, PRIOR).run
    run(
        series(tmp_path, "1.2.1"),
        Others(priors=[write_series(moved, tmp_path / "moved"), prior]),
    )
    assert np.array_equal(network.given["x"][0, 0], network.given["x"][0, 1])


def test_what_is_not_needed_may_be_missing_and_is_told(tmp_path: Path) -> None:
    network = Seeing("x")
    finding, _ = engine(tmp_path, network, PRIOR).run(series(tmp_path, "1.2.1"))
    assert (network.given["x"][0, 1] == -1000).all()
    assert "no series for before in the prior studies: the network ran without" in finding.warnings


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"description": "T2"}, "no series for flair: none of the study fulfils"),
        ({"FrameOfReferenceUID": "1.9"}, "flair: its frame of reference is not that"),
        ({"orientation": CORONAL}, "no series for flair"),
        (
            {"orientation": (0.9397, 0.342, 0.0, -0.342, 0.9397, 0.0)},
            "flair: it lies 20 degrees off the main series",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_reason(
    other: dict[str, Any], message: str, tmp_path: Path
) -> None:
    wanted = FLAIR | {"accepts": {"SeriesDescription": "FLAIR", "SliceThickness": "<= 3"}}
    if other.get("orientation") == CORONAL:
        other = other | {"description": "cor"}
    files = series(tmp_path, "1.2.9", **({"description": "FLAIR"} | other))
    with pytest.raises(StudyUnusable, match=message):
        engine(tmp_path, Seeing("x"), wanted).run(series(tmp_path, "1.2.1"), Others(study=[files]))
