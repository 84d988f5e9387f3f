"""The node's secret: made once, for the node alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dicom_node.errors import StorageError
from dicom_node.store.secret import load_or_make_secret


def test_it_is_made_once_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    file = tmp_path / "secret.key"
    secret = load_or_make_secret(file)
    assert len(secret) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_or_make_secret(file) == secret
    assert list(tmp_path.iterdir()) == [file]


def test_two_nodes_have_two_secrets(tmp_path: Path) -> None:
    assert load_or_make_secret(tmp_path / "a") != load_or_make_secret(tmp_path / "b")


def test_all_who_come_at_once_get_the_same(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        secrets = list(pool.map(load_or_make_secret, [tmp_path / "secret.key"] * 8))
    assert len(set(secrets)) == 1


@pytest.mark.parametrize(
    ("content", "mode", "message"),
    [(b"x" * 32, 0o644, "may be read by others"), (b"short", 0o600, "is damaged")],
)
def test_one_that_is_open_or_damaged_is_not_used(
    content: bytes, mode: int, message: str, tmp_path: Path
) -> None:
    file = tmp_path / "secret.key"
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(StorageError, match=message) as raised:
        load_or_make_secret(file)
    assert raised.value.hint


def test_where_there_is_no_folder_there_is_no_secret(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot be read or made"):
        load_or_make_secret(tmp_path / "nowhere" / "secret.key")
