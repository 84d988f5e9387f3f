"""The commands of `dicom-node`: parse, call, print."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from dicom_node import __version__
from dicom_node.cli import bench_disk as bench_disk_command
from dicom_node.cli import check as check_command
from dicom_node.cli import compare as compare_command
from dicom_node.cli import deidentify as deidentify_command
from dicom_node.cli import engines as engines_command
from dicom_node.cli import engines_new as engines_new_command
from dicom_node.cli import explain as explain_command
from dicom_node.cli import process as process_command
from dicom_node.cli import reload as reload_command
from dicom_node.cli import retry as retry_command
from dicom_node.cli import rules as rules_command
from dicom_node.cli import serve as serve_command
from dicom_node.cli import status as status_command
from dicom_node.cli.console import make_console
from dicom_node.errors import ConfigError, DicomNodeError
from dicom_node.finding import FindingKind
from dicom_node.infer.scaffold_text import Sees

app = typer.Typer(
    name="dicom-node",
    help="Receive studies, run CNN engines on them, return SEG and SR to the archive.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,
)

rules_app = typer.Typer(help="Look into rules: lint, explain, replay.", no_args_is_help=True)
app.add_typer(rules_app, name="rules")

engines_app = typer.Typer(
    help="Look into engines and make them: list, verify, bench, build, new, import.",
    no_args_is_help=True,
)
app.add_typer(engines_app, name="engines")

EXIT_REFUSED = 1
EXIT_MISTAKE = 2


EngineName = Annotated[str, typer.Argument(metavar="NAME", help="An engine.")]
ConfigFile = Annotated[
    Path, typer.Option("--config", "-c", help="The node's configuration.", show_default=True)
]
_DEFAULT_CONFIG = Path("config/node.yaml")


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Say what is wrong and who must do what, without a traceback."""
    try:
        yield
    except DicomNodeError as error:
        console = make_console(wraps=False, stderr=True)
        console.print(error.message, style="red")
        if error.hint:
            console.print(f"-> {error.hint}")
        code = EXIT_MISTAKE if isinstance(error, ConfigError) else EXIT_REFUSED
        raise typer.Exit(code) from None


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dicom-node {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it and end.")
    ] = False,
) -> None:
    del version


@app.command()
def serve(config: ConfigFile = _DEFAULT_CONFIG) -> None:
    """Run the node until SIGTERM or Ctrl-C."""
    with _plain_errors():
        serve_command.serve(config)


@app.command()
def check(
    config: ConfigFile = _DEFAULT_CONFIG,
    echo: Annotated[bool, typer.Option(help="C-ECHO each peer that has an address.")] = True,
) -> None:
    """Show every mistake in the configuration, the rules and the engines; C-ECHO each peer."""
    with _plain_errors():
        if not check_command.check(config, echo):
            raise typer.Exit(EXIT_REFUSED)


@app.command()
def explain(
    subject: Annotated[
        str, typer.Argument(help="A DICOM file, a folder, or the UID of a study or an instance.")
    ],
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Say for each rule why it matches or not, and for a study what happened to it."""
    with _plain_errors():
        explain_command.explain(config, subject)


@app.command()
def reload(config: ConfigFile = _DEFAULT_CONFIG) -> None:
    """Have the running node take up changed rules; a mistake leaves the old ones in force."""
    with _plain_errors():
        if not reload_command.reload(config):
            raise typer.Exit(EXIT_REFUSED)


@app.command()
def process(
    source: Annotated[Path, typer.Argument(help="A DICOM file or a folder of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the results go, as *.dcm.")],
    engine: Annotated[
        list[str] | None,
        typer.Option("--engine", "-e", help="Run this engine whatever the rules say; repeatable."),
    ] = None,
    profile: Annotated[
        str, typer.Option("--profile", "-p", help="Write what a destination of this profile gets.")
    ] = "default",
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Route, infer and encode files without network or ledger; what the gate holds back is told."""
    with _plain_errors():
        if not process_command.process(config, source, out, engine or [], profile):
            raise typer.Exit(EXIT_REFUSED)


@app.command()
def deidentify(
    source: Annotated[
        Path, typer.Argument(metavar="FILE_OR_FOLDER", help="A DICOM file or a folder of them.")
    ],
    profile: Annotated[str, typer.Option("--profile", "-p", help="A profile of the rules file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Where the copies go.")],
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Coerce and de-identify files as a profile says, without network or ledger."""
    with _plain_errors():
        if not deidentify_command.deidentify(config, profile, source, out):
            raise typer.Exit(EXIT_REFUSED)


@app.command()
def status(
    config: ConfigFile = _DEFAULT_CONFIG,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    refused: Annotated[
        bool, typer.Option("--refused", help="List whom and what the door refused.")
    ] = False,
    dead: Annotated[
        bool, typer.Option("--dead", help="List what was given up, and what nobody can prove.")
    ] = False,
    shadow: Annotated[
        bool, typer.Option("--shadow", help="Show how candidates do beside engines in use.")
    ] = False,
) -> None:
    """Show what is open and why."""
    with _plain_errors():
        if dead:
            status_command.print_dead(config, json)
            return
        if shadow:
            compare_command.compare(config, json)
            return
        status_command.status(config, json, refused)


@app.command()
def retry(
    subjects: Annotated[
        list[str] | None,
        typer.Argument(help="Job IDs, numbers or Study Instance UIDs, as status shows them."),
    ] = None,
    all_of_them: Annotated[
        bool, typer.Option("--all", help="Everything parked, dead, or waiting for its next try.")
    ] = False,
    unproven: Annotated[
        bool, typer.Option("--unproven", help="Send what was delivered and not proven again.")
    ] = False,
    to: Annotated[
        str | None, typer.Option("--to", help="With --all or --unproven: what goes there alone.")
    ] = None,
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Try again what was parked, refused, dead, sent or not proven; works while the node runs."""
    with _plain_errors():
        if not retry_command.retry(config, subjects or [], all_of_them, unproven, to):
            raise typer.Exit(EXIT_REFUSED)


@app.command()
def bench_disk(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder of the disk that node.data_dir shall be on.",
            exists=True,
            file_okay=False,
        ),
    ],
    quick: Annotated[bool, typer.Option("--quick", help="In two seconds, more roughly.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure what a disk gives and whether it lies about fsync; uses 300 MB for 15 s."""
    step_s = bench_disk_command.STEP_QUICK_S if quick else bench_disk_command.STEP_S
    with _plain_errors():
        if not bench_disk_command.bench_disk(folder, json, step_s):
            raise typer.Exit(EXIT_REFUSED)


@rules_app.command("lint")
def rules_lint(config: ConfigFile = _DEFAULT_CONFIG) -> None:
    """Find rules that never match, are shadowed, repeat others, or contradict them."""
    with _plain_errors():
        if not rules_command.lint(config):
            raise typer.Exit(EXIT_REFUSED)


@rules_app.command("explain")
def rules_explain(
    subject: Annotated[
        str, typer.Argument(help="A DICOM file, a folder, or the UID of a study or an instance.")
    ],
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Show each condition of each rule with the value that it meets."""
    with _plain_errors():
        explain_command.explain(config, subject, every_condition=True)


@rules_app.command("replay")
def rules_replay(
    new: Annotated[
        Path | None,
        typer.Option("--rules", help="A rules file to try in place of the configuration's."),
    ] = None,
    since: Annotated[str, typer.Option(help="How far back: 30d, 12h, 90m.")] = "30d",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Say what rules would have done of late, against those in force: gained, lost, load."""
    with _plain_errors():
        rules_command.replay(config, new, since, json)


@engines_app.command("new")
def engines_new(
    name: Annotated[str, typer.Argument(help="Of the engine and its folder: my_engine.")],
    kind: Annotated[
        FindingKind, typer.Option("--kind", help="What it answers with.")
    ] = FindingKind.SEGMENTATION,
    sees: Annotated[
        Sees | None,
        typer.Option("--sees", help="What its network sees at a time.", show_default=False),
    ] = None,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Where the folder goes; node.engines_dir if left out."),
    ] = None,
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Write a new engine folder that runs at once, with every word of engine.yaml explained."""
    with _plain_errors():
        engines_new_command.new(config, name, kind, sees, into)


@engines_app.command("list")
def engines_list(config: ConfigFile = _DEFAULT_CONFIG) -> None:
    """Show the engines, what each runs on and why, and what other runtimes lack."""
    with _plain_errors():
        if not engines_command.show(config):
            raise typer.Exit(EXIT_REFUSED)


@engines_app.command("verify")
def engines_verify(name: EngineName, config: ConfigFile = _DEFAULT_CONFIG) -> None:
    """Compare an engine's answers on each runtime with those of its test vector."""
    with _plain_errors():
        if not engines_command.verify(config, name):
            raise typer.Exit(EXIT_REFUSED)


@engines_app.command("bench")
def engines_bench(
    name: EngineName,
    runs: Annotated[int, typer.Option(min=1, help="How many, after the first.")] = 10,
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Measure an engine's networks on each runtime: milliseconds, first run, memory."""
    with _plain_errors():
        if not engines_command.bench(config, name, runs):
            raise typer.Exit(EXIT_REFUSED)


@engines_app.command("build")
def engines_build(name: EngineName, config: ConfigFile = _DEFAULT_CONFIG) -> None:
    """Do now what an engine's first job would wait for: TensorRT's plans, the choice by speed."""
    with _plain_errors():
        if not engines_command.build(config, name):
            raise typer.Exit(EXIT_REFUSED)


@engines_app.command("import")
def engines_import(
    model: Annotated[Path, typer.Argument(help="An ONNX file, or a .keras file.")],
    name: Annotated[str, typer.Option("--name", help="Of the engine: small letters, 0-9 and _.")],
    config: ConfigFile = _DEFAULT_CONFIG,
) -> None:
    """Make an engine folder of a model; it refuses every study until you have completed it."""
    with _plain_errors():
        engines_command.import_model(config, model, name)
