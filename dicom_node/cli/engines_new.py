"""`dicom-node engines new`: a folder that runs at once, and what to do with it."""

from __future__ import annotations

from pathlib import Path

from dicom_node.cli.console import make_console
from dicom_node.config.loading import load_config
from dicom_node.finding import FindingKind
from dicom_node.infer.scaffold import Wanted, new_engine
from dicom_node.infer.scaffold_text import Sees


def new(
    config_file: Path, name: str, kind: FindingKind, sees: Sees | None, into: Path | None
) -> None:
    """Write a new engine folder and say what comes next.

    Parameters
    ----------
    config_file : Path
        Its `node.engines_dir` is where the folder goes, unless `into` names another.
    sees : Sees, optional
        What the network sees; a slice for segmentations and an image for the rest if left out.
    """
    usual = Sees.SLICE if kind is FindingKind.SEGMENTATION else Sees.IMAGE
    root = into or load_config(config_file).node.engines_dir
    folder = new_engine(root, name, Wanted(kind, sees or usual))
    console = make_console(wraps=False)
    for file in sorted(folder.iterdir()):
        console.print(str(file))
    console.print(f"try it: dicom-node process FILE_OR_FOLDER --out results --engine {name}")
    console.print("then put your network in place of model.onnx; engine.yaml explains each word")
