"""`dicom-node engines`: what the commands say, and how they end."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from dicom_node.infer.engine_folders import load_manifest
from dicom_node.ledger.ledger import Ledger
from tests.kserve_server import kserve_server
from tests.unit.cli.sites import ROOT, Site

QUALITY = ROOT / "engines" / "cxr_quality"


@pytest.fixture
def engines(site: Site) -> Path:
    """Return a folder of engines of the site's own, with one of the small ones."""
    folder = site.folder / "engines"
    shutil.copytree(QUALITY, folder / "cxr_quality")
    text = site.config.read_text("utf-8")
    site.config.write_text(text.replace(str(ROOT / "engines"), str(folder)), "utf-8")
    return folder


def on(site: Site, **named: str) -> None:
    """Change what is said under `infer`."""
    lines = "".join(f"  {key}: {value}\n" for key, value in named.items())
    text = site.config.read_text("utf-8")
    site.config.write_text(text.replace("  runtime: onnxruntime\n", lines), "utf-8")


def test_every_engine_is_listed_with_its_runtime_and_the_reason(site: Site) -> None:
    result = site.call("engines", "list")
    assert result.exit_code == 0
    for name in ("ct_lungs", "ct_quality", "cxr_pneumonia", "cxr_quality", "mr_brain"):
        [line] = [line for line in result.output.splitlines() if line.startswith(f"  {name} ")]
        assert load_manifest(ROOT / "engines" / name).model_digest[:12] in line
        assert "onnxruntime" in line
        assert "named in the configuration" in line
        assert "not verified" in line


def test_every_runtime_is_listed_with_what_it_lacks(site: Site) -> None:
    output = site.call("engines", "list").output
    assert "kserve" in output
    assert "infer.server_url names no server" in output
    assert "answers zeros" in output


def test_what_became_of_an_engine_in_service_is_listed_by_the_latest_outcome(site: Site) -> None:
    ledger = Ledger(f"sqlite:///{site.folder}/data/ledger.sqlite")
    ledger.migrate()
    way = "model.onnx on tensorrt 10.1 (fp16)"
    for at, accepted, why in (
        (1e9, True, f"{way} accepted: numbers differ by up to 0.001"),
        (1.1e9, False, f"{way} refused: numbers differ by up to 0.1, more than 0.005"),
        (1.1e9, True, "model.onnx on tensorrt 10.1 (fp32) accepted: numbers are the same"),
    ):
        ledger.engines.record_parity(at, "ct_lungs", accepted=accepted, reason=why)
    ledger.close()
    output = site.call("engines", "list").output
    lines = [line for line in output.splitlines() if "in service" in line]
    assert lines == [
        "ct_lungs in service (2004-11-09): model.onnx on tensorrt 10.1 (fp32) accepted: "
        "numbers are the same",
        f"ct_lungs in service (2004-11-09): {way} refused: numbers differ by up to 0.1, "
        "more than 0.005",
    ]


def test_an_engine_with_a_mistake_is_listed_with_it(site: Site, engines: Path) -> None:
    yaml = engines / "cxr_quality" / "engine.yaml"
    yaml.write_text(yaml.read_text().replace("kind: quality", "kind: qualities"))
    result = site.call("engines", "list")
    assert result.exit_code == 1
    assert "kind: " in result.output


def test_build_measures_and_list_shows_what_it_measured(site: Site, engines: Path) -> None:
    on(site, runtime="auto")
    before = site.call("engines", "list").output
    assert "measured at its first job" in before
    result = site.call("engines", "build", "cxr_quality")
    assert result.exit_code == 0
    assert "onnxruntime: nothing has to be built" in result.output
    assert "cxr_quality runs on onnxruntime: " in result.output, "5 ms are too little to change"
    listed = site.call("engines", "list").output
    assert "measured at its first job" not in listed
    assert re.search(r"openvino [0-9.]+e-0[678]", listed)


def test_verify_compares_each_runtime_and_list_remembers(site: Site, engines: Path) -> None:
    result = site.call("engines", "verify", "cxr_quality")
    assert result.exit_code == 0
    assert result.output.count("right") == 2
    assert "not on kserve: infer.server_url names no server" in result.output
    assert "onnxruntime 0 (2" in site.call("engines", "list").output


def test_verify_asks_the_server_too(site: Site, engines: Path) -> None:
    with kserve_server({"cxr_quality": QUALITY / "model.onnx"}) as server:
        on(site, runtime="onnxruntime", server_url=server.url)
        result = site.call("engines", "verify", "cxr_quality")
    assert result.exit_code == 0
    assert result.output.count("right") == 3
    assert "kserve fake 1.2 cxr_quality 1" in result.output


def test_a_wrong_answer_fails_the_command(site: Site, engines: Path) -> None:
    shutil.copy(ROOT / "engines" / "cxr_quality" / "test_vector.npz", engines / "kept.npz")
    yaml = engines / "cxr_quality" / "engine.yaml"
    yaml.write_text(yaml.read_text().replace("tolerance: ", "tolerance: 1e-9  # "))
    result = site.call("engines", "verify", "cxr_quality")
    assert result.exit_code == 1
    assert "more than 1e-09" in result.output


def test_bench_measures_each_runtime(site: Site, engines: Path) -> None:
    result = site.call("engines", "bench", "cxr_quality", "--runs", "2")
    assert result.exit_code == 0
    assert "median ms" in result.output
    assert "openvino 20" in result.output
    assert "2 runs after the first, 1 threads" in result.output


def test_an_engine_that_there_is_not_is_a_mistake(site: Site) -> None:
    for command in ("verify", "bench", "build"):
        result = site.call("engines", command, "lungs")
        assert result.exit_code == 2
        assert "have: ct_lungs, ct_quality, cxr_pneumonia, cxr_quality, mr_brain" in result.output


def test_import_makes_a_folder_that_is_right_at_once(site: Site, engines: Path) -> None:
    model = ROOT / "tests" / "data" / "models" / "textbook.onnx"
    result = site.call("engines", "import", model, "--name", "textbook")
    assert result.exit_code == 0
    assert "input image: float32 [n, 1, 32, 32]" in result.output
    assert "opset 17" in result.output
    assert f"look for CHANGE in {engines / 'textbook' / 'engine.yaml'}" in result.output
    assert site.call("engines", "verify", "textbook").exit_code == 0
    assert "  textbook " in site.call("engines", "list").output


def test_import_refuses_what_no_engine_can_be_made_of(site: Site, engines: Path) -> None:
    (site.folder / "x.onnx").write_bytes(b"nothing of the kind")
    result = site.call("engines", "import", site.folder / "x.onnx", "--name", "x")
    assert result.exit_code == 1
    assert "x.onnx cannot be loaded: it is no ONNX model" in result.output
    assert not (engines / "x").exists()
