"""A configuration on disk for the commands, and a way to call them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from typer.testing import CliRunner, Result

from dicom_node.cli.app import app
from dicom_node.ledger.ledger import Ledger
from tests.unit.ledger import rows

ROOT = Path(__file__).parents[3]

NODE = """\
node:
  data_dir: data
  engines_dir: {engines_dir}
  rules_file: {rules_file}
infer:
  threads: 1
  runtime: {runtime}
peers:
  scanner:
    ae_title: SCANNER
    may_send: true
  archive:
    ae_title: ARCHIVE
    host: 127.0.0.1
    port: {port}
"""


@dataclass
class Site:
    """A folder with a node.yaml that uses the engines and the rules of this repository."""

    folder: Path
    port: int = 1
    runtime: str = "onnxruntime"

    def __post_init__(self) -> None:
        self.config = self.folder / "node.yaml"
        text = NODE.format(
            engines_dir=ROOT / "engines",
            rules_file=ROOT / "config" / "rules.yaml",
            port=self.port,
            runtime=self.runtime,
        )
        self.config.write_text(text, "utf-8")

    def call(self, *arguments: str | Path) -> Result:
        """Call `dicom-node` with this configuration; wide enough that no line is broken."""
        command = [*map(str, arguments), "--config", str(self.config)]
        result = CliRunner().invoke(app, command, env={"COLUMNS": "400", "TERM": "dumb"})
        assert result.exception is None or isinstance(result.exception, SystemExit), (
            result.exception
        )
        assert "Traceback" not in result.output
        return result

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The node's ledger, made as `serve` would."""
        (self.folder / "data").mkdir(exist_ok=True)
        file = self.folder / "data" / "ledger.sqlite"
        ledger = Ledger(f"sqlite:///{file}") if file.exists() else rows.new_ledger(file.parent)
        yield ledger
        ledger.close()
