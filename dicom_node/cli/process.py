"""`dicom-node process`: route, infer, encode and judge files, without network or ledger."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from dicom_node.cli.console import make_console, make_table
from dicom_node.cli.files import SeriesFiles, find_series
from dicom_node.config.loading import load_config
from dicom_node.encode.profiles import DEFAULT, known_profiles
from dicom_node.encode.trees import Wanted
from dicom_node.errors import ConfigError, DicomNodeError, StorageError
from dicom_node.gate.inspection import Checked
from dicom_node.infer.beside import Others
from dicom_node.infer.engine import Engine
from dicom_node.infer.engine_loading import load_engine
from dicom_node.infer.runtimes.choice import wishes_of
from dicom_node.inference import Outcome, Wishes, infer_and_encode
from dicom_node.logs import configure_logs
from dicom_node.outgoing import held_back, saved
from dicom_node.plan import Plan, load_plan
from dicom_node.route.decide import decide
from dicom_node.route.files import series_of, study_of

_READER = "a person"
"""Who the results are for, in place of a destination."""


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


def process(
    config_file: Path,
    source: Path,
    out: Path,
    engine_names: Sequence[str],
    profile_name: str = DEFAULT,
) -> bool:
    """Process a file or a folder; return whether every series got its results.

    Parameters
    ----------
    out : Path
        What passed the gate lies there.
    engine_names : sequence of str
        To run whatever the rules say.
    profile_name : str
        What a destination of this profile would get. Nobody is asked what he accepts, so `auto`
        is no.

    Raises
    ------
    ConfigError
        If the configuration has a mistake, or an engine or a profile is unknown.
    StudyUnusable
        If there is no file.
    """
    configure_logs("error")
    plan = load_plan(load_config(config_file))
    unknown = [name for name in engine_names if name not in plan.engines]
    if unknown:
        have = ", ".join(sorted(plan.engines))
        raise ConfigError(f"there is no engine called {', '.join(unknown)}", hint=f"have: {have}")
    profiles = known_profiles(plan.config)
    if profile_name not in profiles:
        have = ", ".join(sorted(profiles))
        raise ConfigError(f"there is no profile called {profile_name}", hint=f"have: {have}")
    wishes = Wishes({_READER: Wanted(profiles[profile_name])}, plan.config.results.disclaimer)
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
                lines.append(_run(plan, engine, series, Others(others), rule, wishes, out))
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
    plan: Plan,
    engine: Engine,
    series: SeriesFiles,
    others: Others,
    rule: str,
    wishes: Wishes,
    out: Path,
) -> Line:
    name = engine.manifest.name
    started = time.perf_counter()
    try:
        created_at, key = _origin(series, engine)
        outcome = infer_and_encode(
            engine,
            series.paths,
            created_at,
            key,
            plan.config.node.ae_title,
            others=others,
            wishes=wishes,
        )
        kinds, reason = _written(outcome, name, key, plan.config.results.bytes_max, out)
        if reason:
            held = f"held back, nothing is written: {reason}"
            return Line(series.title, rule, name, held, refused=True)
    except DicomNodeError as error:
        reason = f"refused: {error.message}"
        if error.hint:
            reason += f" -> {error.hint}"
        return Line(series.title, rule, name, reason, refused=True)
    words = "; ".join((outcome.finding.summary, *outcome.finding.warnings))
    return Line(series.title, rule, name, words, kinds, time.perf_counter() - started)


def _written(
    outcome: Outcome, name: str, key: str, bytes_max: int, out: Path
) -> tuple[tuple[str, ...], str]:
    """Write the tree that is wanted; return what it has, or why none of it was written.

    All trees are written aside and judged, as the worker does, before any has its name.
    """
    with _writing(out), TemporaryDirectory(prefix=".dicom-node-", dir=out) as beside:
        folder = Path(beside)

        def save(path: str, pieces: Iterable[bytes | memoryview]) -> int:
            with (folder / path).open("wb") as opened:
                opened.writelines(pieces)
                return opened.tell()

        results = [
            saved(one, key, f"{name}-{one.kind}-{one.sop_instance_uid}.dcm", save)
            for one in outcome.encoded
        ]
        checked = [Checked(one, folder / one.path) for one in results]
        if reason := held_back(outcome, checked, bytes_max):
            return (), reason
        wanted = [one for one in results if outcome.renditions[_READER] in one.renditions]
        for one in wanted:
            (folder / one.path).replace(out / one.path)
        return tuple(one.kind for one in wanted), ""


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
