"""`dicom-node deidentify`: try a profile on files, without network or ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.progress import track

from dicom_node.cli.console import make_console, make_table
from dicom_node.coerce.part10 import CoercedFile, apply_to_file
from dicom_node.coerce.profile import Profile
from dicom_node.coerce.profiles import load_profiles
from dicom_node.config.loading import load_config
from dicom_node.errors import ConfigError, StorageError, StudyUnusable
from dicom_node.store.secret import load_or_make_secret
from dicom_node.uid import is_uid

_PIECE_BYTES = 1024 * 1024


@dataclass
class Outcome:
    """What became of all files: counts and reasons, never a value."""

    written: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    notes: Counter[str] = field(default_factory=Counter)
    refused: dict[Path, str] = field(default_factory=dict)


def deidentify(config_file: Path, profile_name: str, source: Path, out: Path) -> bool:
    """Write the copies of a file or a folder; return whether none was refused.

    Raises
    ------
    ConfigError
        If the configuration has a mistake or the profile is unknown.
    StudyUnusable
        If there is no file.
    StorageError
        If a copy cannot be written.
    """
    config = load_config(config_file)
    profile = _profile(config.node.rules_file, profile_name)
    config.node.data_dir.mkdir(parents=True, exist_ok=True)
    secret = load_or_make_secret(config.secret_file)
    paths = sorted(p for p in source.rglob("*") if p.is_file()) if source.is_dir() else [source]
    if not paths or not source.exists():
        raise StudyUnusable(f"{source}: there is no file", hint="name a DICOM file or a folder")
    outcome = Outcome()
    console = make_console(stderr=True)
    for path in track(paths, "copying", console=console, transient=True):
        _copy(path, profile, secret, out, outcome)
    _print(outcome, paths, out)
    return not outcome.refused


def _profile(rules_file: Path, name: str) -> Profile:
    profiles = load_profiles(rules_file)
    if name not in profiles:
        have = ", ".join(sorted(profiles)) or "none"
        raise ConfigError(
            f"there is no profile called {name} in {rules_file}", hint=f"there are: {have}"
        )
    return profiles[name]


def _copy(path: Path, profile: Profile, secret: bytes, out: Path, outcome: Outcome) -> None:
    try:
        with path.open("rb") as source:
            copied = apply_to_file(source, profile, secret)
            _check_names(copied)
            target = out / copied.coerced.study_instance_uid / f"{copied.sop_instance_uid}.dcm"
            _write(path, copied, target)
    except StudyUnusable as error:
        outcome.refused[path] = f"{error.message} -> {error.hint}" if error.hint else error.message
        return
    outcome.written += 1
    outcome.counts.update(copied.coerced.counts)
    outcome.notes.update(copied.coerced.notes)


def _check_names(copied: CoercedFile) -> None:
    """Raise StudyUnusable unless the UIDs of a copy may be names of a folder and a file."""
    if not (is_uid(copied.coerced.study_instance_uid) and is_uid(copied.sop_instance_uid)):
        raise StudyUnusable("its Study or SOP Instance UID is none")


def _write(source: Path, copied: CoercedFile, target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with source.open("rb") as pixels, target.open("wb") as copy:
            copy.write(copied.head)
            pixels.seek(copied.pixels_offset)
            left = copied.pixels_length
            while piece := pixels.read(min(left, _PIECE_BYTES)):
                copy.write(piece)
                left -= len(piece)
    except OSError as error:
        raise StorageError(
            f"{target} cannot be written: {error.strerror}", hint="name another folder with --out"
        ) from error


def _print(outcome: Outcome, paths: Sequence[Path], out: Path) -> None:
    console = make_console()
    table = make_table("what was done", "elements")
    for what, count in sorted(outcome.counts.items()):
        table.add_row(what, str(count))
    console.print(table)
    for note, count in sorted(outcome.notes.items()):
        console.print(f"{count} files: {note}")
    for path, reason in sorted(outcome.refused.items()):
        console.print(f"{path}: {reason}", style="red", soft_wrap=True)
    console.print(f"{outcome.written} of {len(paths)} files copied to {out}")
