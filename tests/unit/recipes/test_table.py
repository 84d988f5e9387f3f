"""A table of labels, read strictly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from engines.recipes.errors import DataUnusable
from engines.recipes.loaders.table import read_table


def written(folder: Path, text: str) -> Path:
    (folder / "labels.csv").write_text(text, "utf-8-sig")
    return folder / "labels.csv"


def test_numbers_words_and_nothing_are_read(tmp_path: Path) -> None:
    table = read_table(written(tmp_path, "PatientID, ill ,note\n1,YES,0.25\n2,absent,\n3,?,1\n"))
    assert table.labels == ("ill", "note")
    assert table.key == "PatientID"
    values = [table.rows[name].values for name in "123"]
    assert np.array_equal(values, [[1, 0.25], [0, np.nan], [np.nan, 1]], equal_nan=True)


def test_other_columns_are_passed_over_if_labels_are_named(tmp_path: Path) -> None:
    file = written(tmp_path, "StudyInstanceUID,ill,comment\n1.2,0,looks fine\n")
    assert read_table(file, ["ill"]).rows["1.2"].values == (0.0,)
    with pytest.raises(DataUnusable, match=r"labels\.csv:2: comment is 'looks fine'"):
        read_table(file)


def test_the_finest_key_is_taken(tmp_path: Path) -> None:
    text = "PatientID,SeriesInstanceUID,ill\np,1.2,1\np,1.3,0\n"
    table = read_table(written(tmp_path, text))
    assert (table.key, table.labels) == ("SeriesInstanceUID", ("ill",))
    assert table.rows["1.3"].values == (0.0,)


def test_the_same_row_may_stand_twice_but_not_with_another_label(tmp_path: Path) -> None:
    assert len(read_table(written(tmp_path, "PatientID,ill\np,\np,\n")).rows) == 1
    with pytest.raises(DataUnusable, match=r"labels\.csv:3: the PatientID stands twice"):
        read_table(written(tmp_path, "PatientID,ill\np,1\np,0\n"))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("Name,ill\np,1\n", "no column that says what a row is about, but Name, ill"),
        ("PatientID\np\n", "no column with a label"),
        ("PatientID,ill\np,2\nq,-1\n", r"labels\.csv:2: ill is '2'.*labels\.csv:3: ill is '-1'"),
        ("PatientID,ill\n,1\n", r"labels\.csv:2: PatientID is empty"),
        ("PatientID,ill,split\np,1,val\n", "split is 'val', not train, validation, test"),
        ("", "no column that says"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match=told):
        read_table(written(tmp_path, text))


def test_a_label_that_is_no_column_and_a_file_that_is_none_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataUnusable, match="no column old, but PatientID, ill"):
        read_table(written(tmp_path, "PatientID,ill\np,1\n"), ["old"])
    with pytest.raises(DataUnusable, match="cannot be read"):
        read_table(tmp_path / "nowhere.csv")
    (tmp_path / "utf16.csv").write_text("PatientID,ill\n", "utf-16")
    with pytest.raises(DataUnusable, match="no CSV in UTF-8"):
        read_table(tmp_path / "utf16.csv")
