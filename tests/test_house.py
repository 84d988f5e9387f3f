"""The house is in order: the data are what they were, and the guards notice a planted fault."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.costs import long_tests

ROOT = Path(__file__).resolve().parent.parent
CLEAN = '"""A clean module."""\n\nANSWER = 42\n'

RequireProgram = Callable[[str], Path]

# Put together here, so that this file does not trip over the hooks itself.
ROOTS_HOME = "/" + "root/"
A_HOME = "/" + "home/alice/"
BREAKPOINT = "break" + "point()"
CONFLICT = "<" * 7 + " HEAD"


# ------------------------------------------------------------ data


def test_the_data_are_what_they_were(data_dir: Path) -> None:
    lines = (data_dir / "SHA256SUMS").read_text("ascii").splitlines()
    listed = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    found = {
        file.relative_to(data_dir).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in data_dir.rglob("*")
        if file.is_file() and file.parent != data_dir
    }
    assert found == listed


def test_the_data_stay_small(data_dir: Path) -> None:
    size_bytes = sum(file.stat().st_size for file in data_dir.rglob("*") if file.is_file())
    assert size_bytes < 25 * 1024 * 1024


def test_every_folder_of_data_has_its_licence(data_dir: Path) -> None:
    licences = (data_dir / "LICENCES.md").read_text("utf-8")
    readme = (data_dir / "README.md").read_text("utf-8")
    for folder in (folder.name for folder in data_dir.iterdir() if folder.is_dir()):
        assert f"`{folder}/" in licences, folder
        assert f"{folder}/" in readme, folder


# ------------------------------------------------------------ pre-commit


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a small repository that is guarded as this one is, with nothing wrong in it."""
    folder = tmp_path / "repository"
    (folder / "dicom_node").mkdir(parents=True)
    (folder / "dicom_node" / "__init__.py").write_text(CLEAN)
    for name in ("engines", "tests"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(CLEAN)
    (folder / ".venv").symlink_to(sys.prefix)
    for name in (".pre-commit-config.yaml", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / ".gitignore").write_text(".venv\n*_cache/\n")
    git(folder, "init", "--quiet")
    return folder


def environment(folder: Path) -> dict[str, str]:
    # Inside of a git hook, git's own variables would lead back to the repository around us.
    inherited = {name: text for name, text in os.environ.items() if not name.startswith("GIT_")}
    return inherited | {
        "HOME": str(folder.parent),
        "GIT_CONFIG_GLOBAL": os.devnull,
        "PRE_COMMIT_HOME": str(folder.parent / "pre-commit"),
    }


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=folder, env=environment(folder), check=True)


def pre_commit(program: Path, folder: Path) -> tuple[int, set[str]]:
    """Run every hook on every file; return the exit status and the hooks that failed."""
    git(folder, "add", "--all")
    done = subprocess.run(
        [program, "run", "--all-files", "--color=never"],
        cwd=folder,
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, set(re.findall(r"^- hook id: (\S+)$", done.stdout, re.MULTILINE))


def test_pre_commit_passes_a_clean_repository(
    repository: Path, require_program: RequireProgram
) -> None:
    assert pre_commit(require_program("pre-commit"), repository) == (0, set())


@pytest.mark.parametrize(
    ("name", "planted", "hook"),
    [
        ("dicom_node/planted.py", "import os\n", "ruff-check"),
        ("dicom_node/planted.py", "ANSWER  =  42\n", "ruff-format"),
        ("dicom_node/planted.py", 'ANSWER: int = "42"\n', "mypy"),
        ("dicom_node/planted.py", f'HOME = "{ROOTS_HOME}data"\n', "machine-paths"),
        ("README.md", f"Look into {A_HOME}data.\n", "machine-paths"),
        ("dicom_node/planted.py", f"{BREAKPOINT}\n", "left-behind"),
        ("README.md", f"{CONFLICT}\n", "left-behind"),
    ],
)
def test_pre_commit_refuses_a_planted_fault(
    name: str, planted: str, hook: str, repository: Path, require_program: RequireProgram
) -> None:
    (repository / name).write_text(planted)
    assert pre_commit(require_program("pre-commit"), repository) == (1, {hook})


def test_no_file_of_this_repository_names_a_machine(
    tmp_path: Path, require_program: RequireProgram
) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is not a git checkout")
    for hook in ("machine-paths", "left-behind"):
        done = subprocess.run(
            [require_program("pre-commit"), "run", hook, "--all-files", "--color=never"],
            cwd=ROOT,
            env=environment(tmp_path / "repository"),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout


# ------------------------------------------------------------ installation


def test_what_is_left_out_of_the_quick_loop_is_there() -> None:
    for name in long_tests():
        file, *_, function = name.split("::")
        assert f"def {function}(" in (ROOT / file).read_text(), (
            f"tests/long.txt names {name}, which is gone: rename it there, or run make long"
        )


def test_constraints_pin_versions_and_name_no_host() -> None:
    lines = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert pins
    assert [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.+!]+", pin)] == []


def test_every_dependency_is_pinned() -> None:
    def canonical(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {canonical(pin.split("==")[0]) for pin in pins}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = {**project["optional-dependencies"]}
    del extras["gpu"]  # see the next test
    required = [*project["dependencies"], *(name for extra in extras.values() for name in extra)]
    names = {canonical(re.split(r"[^\w.-]", name)[0]) for name in required}
    assert len(names) > 20
    assert names - pinned - {"dicom-node"} == set()


def test_nothing_that_runs_here_asks_for_the_extra_of_the_gpu() -> None:
    """TensorRT's package only fetches its libraries, from where a CI machine does not reach."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert any("tensorrt" in name for name in project["optional-dependencies"]["gpu"])
    for extra, names in project["optional-dependencies"].items():
        assert extra == "gpu" or not any("dicom-node[gpu" in name for name in names)
    asking = (ROOT / name for name in ("Makefile", "Dockerfile", "constraints.txt", ".ci/run"))
    for file in asking:
        assert not re.search(r"\[[^]]*gpu|^(tensorrt|pycuda)==", file.read_text("utf-8"), re.M), (
            file
        )


def test_hadolint_finds_nothing_in_the_dockerfile(require_program: RequireProgram) -> None:
    done = subprocess.run(
        [require_program("hadolint"), "--no-color", ROOT / "Dockerfile"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("script", [".ci/run", ".ci/witnesses", ".ci/pycuda"])
def test_the_scripts_of_ci_are_whole_and_executable(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", ROOT / script], check=True)


def test_make_help_tells_every_target_that_a_person_calls() -> None:
    told = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for target in ("demo", "check", "test", "format", "clean"):
        assert f"make {target} " in told
