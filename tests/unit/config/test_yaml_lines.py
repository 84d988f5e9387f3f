"""YAML with its lines: every mistake can say where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.yaml_lines import load_yaml, raise_mistakes
from dicom_node.errors import ConfigError, Mistake


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.yaml"


def write(file: Path, text: str | bytes) -> Path:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    return file


def test_every_key_and_item_knows_its_line(file: Path) -> None:
    loaded = load_yaml(write(file, "# comment\na:\n  b: 1\n\n  c: [x,\n      y]\nd: {e: 2}\n"))
    assert loaded.data == {"a": {"b": 1, "c": ["x", "y"]}, "d": {"e": 2}}
    expected = {
        ("a",): 2,
        ("a", "b"): 3,
        ("a", "c"): 5,
        ("a", "c", 0): 5,
        ("a", "c", 1): 6,
        ("d",): 7,
        ("d", "e"): 7,
    }
    assert {path: loaded.line_of(path) for path in expected} == expected


def test_a_key_that_is_not_there_has_the_line_of_its_nearest_parent(file: Path) -> None:
    loaded = load_yaml(write(file, "a: 1\nb:\n  c:\n    d: 1\n"))
    assert loaded.line_of(("b", "c", "missing", "deeper")) == 3
    assert loaded.line_of(("missing",)) == 1


def test_scalars_have_the_types_of_safe_yaml(file: Path) -> None:
    text = "i: 1\nf: 2.5\nt: yes\nn: ~\ns: CT\nq: '1'\n1: a key is text\n"
    assert load_yaml(write(file, text)).data == {
        "i": 1,
        "f": 2.5,
        "t": True,
        "n": None,
        "s": "CT",
        "q": "1",
        "1": "a key is text",
    }


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_an_empty_file_is_an_empty_mapping(text: str, file: Path) -> None:
    assert load_yaml(write(file, text)).data in ({}, None)


def test_a_key_that_stands_twice_is_a_mistake_at_its_second_line(file: Path) -> None:
    loaded = load_yaml(write(file, "a:\n  b: 1\n  c: 2\n  b: 3\nd: 1\na: 2\n"))
    assert loaded.mistakes == [
        Mistake(str(file), 4, "a.b", "stands twice"),
        Mistake(str(file), 6, "a", "stands twice"),
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: [1", 1),
        ("a: 1\n  b: 2\n", 2),
        ("a: 1\nb: *nobody\n", 2),
        ("a: 1\n---\nb: 2\n", 2),
        ("a: 1\n\tb: 2\n", 2),
        ("a: 'open\n", 2),
    ],
)
def test_what_is_no_yaml_says_where(text: str, line: int, file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(write(file, text))
    [mistake] = caught.value.mistakes
    assert mistake.file == str(file)
    assert mistake.line in {line, line - 1}
    assert "is no YAML" in mistake.message


@pytest.mark.parametrize(
    "text",
    [
        b"a: 1\nb: \x00\n",  # a character that YAML does not allow
        b"a: 1\nb: 2024-99-99\n",  # looks like a date
        b"a: 1\nb: !!int abc\n",
        b"a: 1\nb: !engine x\n",
        b"a: 1\nb: &loop [*loop]\n",
        b"a: 1\nb: \xff\n",
    ],
)
def test_no_file_ends_in_a_traceback(text: bytes, file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(write(file, text))
    [mistake] = caught.value.mistakes
    assert mistake.file == str(file)


def test_a_missing_file_says_what_to_do(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_yaml(file)
    [mistake] = caught.value.mistakes
    assert mistake == Mistake(str(file), 0, "", "cannot be read: No such file or directory")
    assert caught.value.hint == f"create {file} or name another file"


def test_the_mistakes_of_all_files_are_raised_at_once(tmp_path: Path) -> None:
    one = load_yaml(write(tmp_path / "one.yaml", "a: 1\n"))
    two = load_yaml(write(tmp_path / "two.yaml", "a: 1\nb: 2\n"))
    raise_mistakes([one, two])
    one.mistake(("a",), "is wrong")
    two.mistake(("b",), "is wrong too")
    with pytest.raises(ConfigError) as caught:
        raise_mistakes([one, two], hint="repair them")
    assert str(caught.value).splitlines() == [
        f"{tmp_path / 'one.yaml'}:1: a: is wrong",
        f"{tmp_path / 'two.yaml'}:2: b: is wrong too",
    ]
    assert caught.value.hint == "repair them"
