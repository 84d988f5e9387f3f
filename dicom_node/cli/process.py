"""`dicom-node process`: route, infer and encode files, without network or ledger."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dicom_node.cli.console import make_console, make_table
from dicom_node.cli.files import SeriesFiles, find_series
from dicom_node.config.loading import load_config
from dicom_node.errors import ConfigError, DicomNodeError, StorageError
from dicom_node.infer.beside import Others
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.runtimes.choice import wishes_of
from dicom_node.inference import infer_and_encode
from dicom_node.logs import configure_logs
from dicom_node.plan import Plan, load_plan
from dicom_node.route.decide import decide
from dicom_node.route.files import series_of, study_of


@dataclass(frozen=True)
class Line:
    """One line of the table: an engine on a series, or why there was none."""

    series: str
    rule: str
    engine: str
    outcome: str
    results: tuple[str, ...] = ()
    seconds: float = 0.0
    refused: bool = False


def process(config_file: Path, source: Path, out: Path, engine_names: Sequence[str]) -> bool:
    """Process a file or a folder; return whether every series got its results.

    Raises
    ------
    ConfigError
        If the configuration has a mistake or an engine is unknown.
    StudyUnusable
        If there is no file.
    """
    configure_logs("error")
    plan = load_plan(load_config(config_file))
    unknown = [name for name in engine_names if name not in plan.engines]
    if unknown:
        have = ", ".join(sorted(plan.engines))
        raise ConfigError(f"there is no engine called {', '.join(unknown)}", hint=f"have: {have}")
    found, unreadable = find_series(source)
    _make_folder(out)
    lines = [
        Line(broken.path.name, "-", "-", broken.reason, refused=True)
        for broken in unreadable
        if broken.claims_to_be_dicom or not found
    ]
    engines: dict[str, Engine] = {}
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=make_console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        for series in found:
            for rule, name, parameters in _wanted(plan, series, engine_names, lines):
                progress.update(task, description=f"{name} on {series.title}")
                if name not in engines:
                    engines[name] = load_engine(
                        plan.engines[name].folder,
                        threads=plan.config.infer.threads,
                        wishes=wishes_of(plan.config),
                    )
                engine = engines[name].with_parameters(parameters)
                others = [
                    one.paths
                    for one in found
                    if one.study_instance_uid == series.study_instance_uid and one is not series
                ]
                lines.append(_run(plan, engine, series, Others(others), rule, out))
    _print(lines, out)
    return not any(line.refused for line in lines)


def _wanted(
    plan: Plan, series: SeriesFiles, engine_names: Sequence[str], lines: list[Line]
) -> list[tuple[str, str, Mapping[str, float]]]:
    """Return (rule, engine, parameters) of what is to run; without any, say why in `lines`.

    A series is judged on its own, and rules that wait for a finding wait in vain.
    """
    if engine_names:
        return [("-", name, {}) for name in engine_names]
    facts = series_of(series.series_instance_uid, series.headers)
    decision = decide(plan.rules, study_of(series.study_instance_uid, [facts]))
    wanted = [(order.rule, order.engine, order.parameters) for order in decision.orders]
    if not wanted:
        why = f"no rule matched; dicom-node explain {series.paths[0]} says why"
        lines.append(Line(series.title, "none", "-", why, refused=True))
    return wanted


def _run(
    plan: Plan, engine: Engine, series: SeriesFiles, others: Others, rule: str, out: Path
) -> Line:
    name = engine.manifest.name
    started = time.perf_counter()
    try:
        outcome = infer_and_encode(
            engine,
            series.paths,
            *_origin(series, engine),
            plan.config.node.ae_title,
            others=others,
        )
        for encoded in outcome.encoded:
            file = out / f"{name}-{encoded.kind}-{encoded.sop_instance_uid}.dcm"
            with _writing(file), file.open("wb") as opened:
                opened.writelines(encoded.pieces)
    except DicomNodeError as error:
        reason = f"refused: {error.message}"
        if error.hint:
            reason += f" -> {error.hint}"
        return Line(series.title, rule, name, reason, refused=True)
    words = "; ".join((outcome.finding.summary, *outcome.finding.warnings))
    kinds = tuple(encoded.kind for encoded in outcome.encoded)
    return Line(series.title, rule, name, words, kinds, time.perf_counter() - started)


def _origin(series: SeriesFiles, engine: Engine) -> tuple[float, str]:
    """Return time and key for the results: the same for the same files and the same engine."""
    created_at = max(path.stat().st_mtime for path in series.paths)
    digests = sorted(hashlib.sha256(path.read_bytes()).hexdigest() for path in series.paths)
    parts = [*digests, engine.manifest.model_digest, str(created_at)]
    return created_at, hashlib.sha256("".join(parts).encode()).hexdigest()


def _make_folder(folder: Path) -> None:
    with _writing(folder):
        folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}", hint="name another folder with --out"
        ) from error


def _print(lines: Sequence[Line], out: Path) -> None:
    table = make_table("series", "rule", "engine", "finding, or why not", "results", "seconds")
    for line in lines:
        seconds = f"{line.seconds:.1f}" if line.results else "-"
        style = "red" if line.refused else None
        table.add_row(
            line.series,
            line.rule,
            line.engine,
            line.outcome,
            " ".join(line.results) or "-",
            seconds,
            style=style,
        )
    console = make_console()
    console.print(table)
    written = sum(len(line.results) for line in lines)
    console.print(f"{written} results in {out}")
