"""`dicom-node engines`: what there is, whether it is right, how fast; and a new one of a model."""

from __future__ import annotations

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from dicom_node.cli.console import make_console, make_table
from dicom_node.config.loading import load_config
from dicom_node.config.settings import Config
from dicom_node.errors import ConfigError, EngineError
from dicom_node.infer import inspection
from dicom_node.infer.authoring.importing import import_model as imported
from dicom_node.infer.bench import bench as bench_engine
from dicom_node.infer.engine_folders import find_engines, list_engines
from dicom_node.infer.inspection import Standing, stand, to_ask
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.networks import choose
from dicom_node.infer.runtimes.choice import wishes_of
from dicom_node.infer.runtimes.registry import NULL, RUNTIMES, version
from dicom_node.ledger.engines import PARITY_REFUSED
from dicom_node.ledger.ledger import Ledger
from dicom_node.logs import configure_logs
from dicom_node.model import Event

_DIGEST_SHOWN = 12
_UNMEASURED = "the fastest: measured at its first job, or by `engines build`"


def show(config_file: Path) -> bool:
    """Print all engines with their runtimes; return whether each can run here."""
    config = _config(config_file)
    found = find_engines(config.node.engines_dir)
    wishes, threads = wishes_of(config), config.infer.threads
    standings = [stand(each, wishes, threads) for each in found.manifests.values()]
    console = make_console()
    table = make_table("engine", "version", "kind", "digest", "runtime", "why", "parity")
    for standing in standings:
        manifest, choice = standing.manifest, standing.choice
        table.add_row(
            manifest.name,
            manifest.version,
            manifest.kind,
            manifest.model_digest[:_DIGEST_SHOWN],
            choice.runtime if choice else "-",
            choice.reason if choice else standing.problem or _UNMEASURED,
            _parity(standing),
            style="red" if standing.problem else None,
        )
    console.print(table)
    for standing in standings:
        for name, reason in standing.choice.refused.items() if standing.choice else ():
            console.print(f"{standing.manifest.name} not on {name}: {reason}", style="yellow")
    for event in _in_service(config, found.manifests):
        day = datetime.fromtimestamp(event.at, UTC).date()
        style = "yellow" if event.event == PARITY_REFUSED else None
        console.print(f"{event.subject} in service ({day}): {event.reason}", style=style)
    for mistake in found.mistakes:
        console.print(str(mistake), style="red")
    table = make_table("runtime", "version", "on this machine")
    _, missing = to_ask(wishes)
    for name in RUNTIMES:
        can = "answers zeros, for tests; only by name" if name == NULL else "can be used"
        table.add_row(name, version(name) or "-", missing.get(name, can))
    console.print(table)
    return not found.mistakes and not any(standing.problem for standing in standings)


def verify(config_file: Path, name: str) -> bool:
    """Print what each runtime does with an engine's test vector; return whether all are right."""
    config = _config(config_file)
    manifest, wishes = _manifest(config, name), wishes_of(config)
    kinds, missing = to_ask(wishes)
    console = make_console()
    table = make_table("runtime", "difference", "tolerance", "")
    right = True
    for found in inspection.verify(manifest, kinds, wishes, config.infer.threads, time.time()):
        right = right and not found.problem
        table.add_row(
            found.description or found.runtime,
            "-" if found.difference is None else f"{found.difference:.3g}",
            f"{manifest.test_vector.tolerance:g}",
            found.problem or "right",
            style="red" if found.problem else None,
        )
    console.print(table)
    _print_missing(console, missing)
    return right


def bench(config_file: Path, name: str, runs: int) -> bool:
    """Print how fast an engine is on each runtime; return whether it runs on all of them."""
    config = _config(config_file)
    manifest, wishes = _manifest(config, name), wishes_of(config)
    kinds, missing = to_ask(wishes)
    console = make_console()
    headings = ("runtime", "load ms", "first run ms", "median ms", "best ms", "memory MB")
    table = make_table(*headings, "")
    all_ran = True
    for runtime in kinds:
        try:
            found = bench_engine(manifest.folder, runtime, wishes, config.infer.threads, runs)
        except EngineError as error:
            all_ran = False
            table.add_row(runtime, *["-"] * (len(headings) - 1), error.in_words, style="red")
            continue
        times = (found.load_ms, found.first_ms, found.median_ms, found.best_ms)
        memory = f"{found.memory_bytes / 1e6:.0f}"
        table.add_row(found.description, *(f"{each:.1f}" for each in times), memory, "")
    console.print(table)
    console.print(
        f"{name}'s test vector, {runs} runs after the first, {config.infer.threads} threads; "
        "each runtime in a process of its own"
    )
    _print_missing(console, missing)
    return all_ran


def build(config_file: Path, name: str) -> bool:
    """Do what the first job would wait for: plans, measurements; return whether all went well."""
    config = _config(config_file)
    manifest, wishes = _manifest(config, name), wishes_of(config)
    kinds, missing = to_ask(wishes)
    console = make_console()
    built = list(inspection.build(manifest, kinds, wishes, config.infer.threads))
    for each in built:
        style = "red" if each.problem else None
        console.print(f"{each.runtime}: {each.file}: {each.words or each.problem}", style=style)
    planned = {each.runtime for each in built}
    for runtime in kinds:
        if runtime not in planned:
            console.print(f"{runtime}: nothing has to be built")
    _print_missing(console, missing)
    choice = choose(manifest, wishes, config.infer.threads)
    if choice is not None:
        console.print(f"{name} runs on {choice.runtime}: {choice.reason}")
    return not any(each.problem for each in built)


def import_model(config_file: Path, model: Path, name: str) -> None:
    """Make an engine folder of a model, and print what is left to do."""
    config = _config(config_file)
    made = imported(model, name, config.node.engines_dir)
    console = make_console(wraps=False)
    for line in made.told:
        console.print(line)
    console.print(f"made {made.folder}")
    console.print(f"next: look for CHANGE in {made.folder / 'engine.yaml'} and card.md")
    console.print(f"then: dicom-node engines verify {name}")


def _config(config_file: Path) -> Config:
    configure_logs("error")
    return load_config(config_file)


def _manifest(config: Config, name: str) -> Manifest:
    engines = list_engines(config.node.engines_dir)
    if name not in engines:
        have = ", ".join(sorted(engines))
        raise ConfigError(f"there is no engine called {name}", hint=f"have: {have}")
    return engines[name]


def _in_service(config: Config, names: Iterable[str]) -> list[Event]:
    """Return how the networks stood when the node last loaded them; a node that never ran: none."""
    ledger = Ledger(config.ledger_url)
    try:
        ledger.require_current()
        return [event for name in names for event in ledger.engines.latest(name)]
    except ConfigError:
        return []
    finally:
        ledger.close()


def _parity(standing: Standing) -> str:
    told = []
    for name, parity in standing.parities.items():
        day = f" ({datetime.fromtimestamp(parity.at, UTC).date()})" if parity.at else ""
        told.append(f"{name} {parity.difference:.2g}{day}")
    return ", ".join(told) or "not verified"


def _print_missing(console: Console, missing: dict[str, str]) -> None:
    for name, reason in missing.items():
        console.print(f"not on {name}: {reason}")
