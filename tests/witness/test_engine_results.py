"""The results of the bundled engines on real data, before programs that we did not write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dicom_node.infer.engine_loading import load_engine
from tests.engines.brain import EngineRun, whole_brain
from tests.witness.programs import said_by
from tests.witness.test_results import CHEST_CT, CR, DX, results_of, segments_match

pytestmark = pytest.mark.witness

ENGINES = Path(__file__).parents[2] / "engines"


def lungs(_: pytest.TempPathFactory) -> EngineRun:
    return load_engine(ENGINES / "ct_lungs", threads=2).run(sorted(CHEST_CT.glob("*.dcm")))


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(lungs, id="ct_lungs"),
        pytest.param(whole_brain, id="mr_brain", marks=pytest.mark.slow),
    ],
)
def test_segmentations_are_read_as_the_engine_drew_them(
    run: Callable[[pytest.TempPathFactory], EngineRun],
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    finding, sources = run(tmp_path_factory)
    paths = results_of(finding, sources, tmp_path)
    segments_match(finding, sources, paths, tmp_path)


@pytest.mark.parametrize("engine", ["cxr_pneumonia", "cxr_quality"])
@pytest.mark.parametrize("path", [CR, DX], ids=["CR", "DX"])
def test_reports_say_what_the_engine_said(engine: str, path: Path, tmp_path: Path) -> None:
    finding, sources = load_engine(ENGINES / engine, threads=2).run([path])
    tree = said_by("dsrdump", "+Pl", results_of(finding, sources, tmp_path)["SR"])
    for said in finding.classifications:
        assert f'NUM:(,,"Probability")="{round(said.probability, 4)}" (1,UCUM,"no units")' in tree
        presence = '52101004,SCT,"Present"' if said.present else '272519000,SCT,"Absent"'
        assert f'CODE:(,,"Presence")=({presence})' in tree
    for graded in finding.qualities:
        assert tree.count('CODE:(,,"Imaging Series Quality")=(RID1') == 1
        for fault in graded.faults:
            assert (f'"{fault.name} (' in tree) is fault.found
    for limit in finding.engine.limits:
        assert limit in tree
