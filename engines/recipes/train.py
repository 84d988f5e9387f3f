"""`python -m engines.recipes.train RECIPE --data DIR --out engines/NAME`: an engine, trained."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from dicom_node.errors import DicomNodeError
from engines.recipes.book import NAMES, find_recipe
from engines.recipes.errors import DataUnusable

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
_BUNDLED = Path(__file__).parent / "data"


@app.command()
def main(
    recipe: Annotated[str, typer.Argument(help=f"One of {', '.join(NAMES)}.")],
    data: Annotated[Path, typer.Option(help="The folder of the data set.")] = _BUNDLED,
    out: Annotated[
        Path | None, typer.Option(help="The engine's folder; engines/RECIPE if left out.")
    ] = None,
    change: Annotated[
        list[str] | None, typer.Option("--set", help="A setting, epochs=5; repeatable.")
    ] = None,
    search: Annotated[
        list[str] | None,
        typer.Option(help="Values to try on validation, dropout=0.1,0.3; `default`: the recipe's."),
    ] = None,
    settings: Annotated[
        bool, typer.Option("--settings", help="Print what can be set, and end.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="An engine that is there gives way.")
    ] = False,
) -> None:
    """Train a network and write the folder of an engine that the node runs."""
    console = Console(stderr=True)
    try:
        _train(console, recipe, data, out, change or [], search or [], settings, replace)
    except DicomNodeError as error:
        console.print(error.in_words, style="red", markup=False)
        raise typer.Exit(2) from error


def _train(
    console: Console,
    name: str,
    data: Path,
    out: Path | None,
    change: list[str],
    search: list[str],
    only_settings: bool,
    replace: bool,
) -> None:
    recipe = find_recipe(name)
    # Keras and its backend take seconds to import: not before the command is known to be right.
    from engines.recipes.folder import manifest_of, require_free, write_folder
    from engines.recipes.preparation import of_manifest
    from engines.recipes.training import train

    settings = recipe.settings.having(_words(change))
    if only_settings:
        for word, value in sorted(settings.words.items()):
            told = "-".join(map(str, value)) if isinstance(value, tuple) else value
            typer.echo(f"{word}={told}")
        return
    target = out or Path("engines") / name
    require_free(target, replace=replace)
    began, worked = time.monotonic(), time.process_time()
    samples = recipe.load(data, of_manifest(manifest_of(recipe)))
    console.print(f"{samples.source}: {len(samples)} samples", markup=False)
    grid = dict(recipe.grid) if search == ["default"] else _grid(search)
    with _bar(console) as bar:
        tasks: dict[str, TaskID] = {}

        def tell(what: str, done: int, total: int, words: str) -> None:
            if what not in tasks:
                tasks[what] = bar.add_task(what, total=total, words="")
            bar.update(tasks[what], completed=done, words=words)

        trained = train(recipe, samples, settings, grid, tell)
    for row in trained.figures.rows:
        console.print(f"test: {row.name} {row.in_words}", markup=False)
    written = write_folder(recipe, trained, samples, target, _command(), replace=replace)
    console.print(
        f"{written.folder}: {written.model_bytes / 1e6:.1f} MB; "
        f"{time.monotonic() - began:.0f} s, {time.process_time() - worked:.0f} s of processor",
        markup=False,
    )
    console.print(f"Next: dicom-node engines verify {target.name}", markup=False)


def _words(given: list[str]) -> dict[str, str]:
    if wrong := [each for each in given if "=" not in each]:
        raise DataUnusable(f"{wrong[0]} is no setting", hint="word=value: --set epochs=5")
    return dict(each.split("=", 1) for each in given)


def _grid(given: list[str]) -> dict[str, list[str]]:
    return {word: values.split(",") for word, values in _words(given).items()}


def _command() -> str:
    return f"python -m engines.recipes.train {shlex.join(sys.argv[1:])}"


@contextmanager
def _bar(console: Console) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}", markup=False),
    )
    with Progress(*columns, console=console) as progress:
        yield progress


if __name__ == "__main__":
    app()
