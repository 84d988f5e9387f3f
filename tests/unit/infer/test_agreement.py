"""How far two versions agree: on one series and over many, by tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dicom_node.infer.agreement import (
    Agreement,
    Summary,
    agreement_of,
    dice_of,
    kappa,
    summary_of,
    why_to_stop,
)
from dicom_node.trials import StopRule


def slices(*masks: str) -> dict[str, NDArray[np.uint8]]:
    """Return slices by UID; each is written as its pixels: 1100."""
    return {
        str(number): np.packbits(np.array(list(mask), np.uint8), bitorder="little")
        for number, mask in enumerate(masks)
        if "1" in mask
    }


# ---------------------------------------------------------------- Dice


@pytest.mark.parametrize(
    ("mine", "theirs", "expected"),
    [
        (["11110000"], ["11110000"], 1.0),
        (["11110000"], ["00001111"], 0.0),
        (["11110000"], ["11000000"], 2 * 2 / 6),
        (["1100", "0011"], ["1100", "0110"], 2 * 3 / 8),
        (["1100", "0000"], ["0000", "1100"], 0.0),  # the same pixels of another slice
        (["111111111111"], ["000000001111"], 2 * 4 / 16),  # more than a byte
    ],
)
def test_dice_is_twice_what_both_have_over_what_each_has(
    mine: list[str], theirs: list[str], expected: float
) -> None:
    found = dice_of({"Lung": slices(*mine)}, {"Lung": slices(*theirs)})
    assert found == {"Lung": pytest.approx(expected)}


def test_dice_is_told_segment_by_segment_and_is_0_for_what_one_has_not_found() -> None:
    left, right = slices("1100"), slices("0011")
    found = dice_of({"Left": left, "Right": right}, {"Left": left, "Other": right})
    assert found == {"Left": 1.0, "Other": 0.0, "Right": 0.0}
    assert dice_of({}, {}) == {}


# ---------------------------------------------------------------- one series


def test_findings_are_laid_side_by_side() -> None:
    mine = {
        "probability.pneumonia": ("0.1", "0.6"),
        "probability.mass": ("0.2",),
        "present": ("Pneumonia",),
    }
    theirs = {
        "probability.pneumonia": ("0.4",),
        "probability.nodule": ("0.9",),
        "present": ("nodule",),
    }
    found = agreement_of(mine, theirs)
    assert found == Agreement(
        probability={"pneumonia": (0.6, 0.4)}, present={"pneumonia": (True, False)}
    )
    assert found.flips == ("pneumonia",)
    assert found.words == "pneumonia 0.60 -> 0.40; other: pneumonia"


def test_grades_and_faults_are_compared_too() -> None:
    mine = {
        "grade": ("limited",),
        "fault": ("badly exposed",),
        "probability.badly_exposed": ("0.4",),
    }
    theirs = {"grade": ("diagnostic",), "fault": (), "probability.badly_exposed": ("0.1",)}
    found = agreement_of(mine, theirs)
    assert found.grade == ("limited", "diagnostic")
    assert found.flips == ("badly_exposed", "grade")


def test_segments_have_dice_volumes_and_presence() -> None:
    mine = {"volume_ml.left_lung": ("2000",), "volume_ml.tumour": ("0",), "present": ("Left lung",)}
    theirs = {
        "volume_ml.left_lung": ("1900",),
        "volume_ml.tumour": ("3",),
        "present": ("Left lung", "Tumour"),
    }
    masks = ({"Left lung": slices("1111")}, {"Left lung": slices("1110"), "Tumour": slices("1000")})
    found = agreement_of(mine, theirs, masks)
    assert found.worst_dice == 0.0
    assert found.flips == ("tumour",)
    assert found.words == (
        "Dice of Left lung 0.857, Dice of Tumour 0.000, left_lung -100.0 ml (-5.0%), "
        "tumour +3.0 ml (+100.0%); other: tumour"
    )


def test_what_is_kept_comes_back() -> None:
    full = Agreement(
        dice={"a": 0.5},
        volume_ml={"a": (1.0, 2.0)},
        probability={"b": (0.1, 0.2)},
        present={"b": (True, False)},
        grade=("limited", "diagnostic"),
    )
    for one in (full, Agreement()):
        assert Agreement.of_json(one.as_json()) == one
    assert Agreement().words == "nothing to compare"


# ---------------------------------------------------------------- many studies


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([], None),
        ([(1, 1)] * 5, None),  # nobody knows another answer
        ([(0, 0), (1, 1)], 1.0),
        ([(0, 1), (1, 0)], -1.0),
        ([(0, 0), (0, 1), (1, 0), (1, 1)], 0.0),
        # Cohen 1960's way by hand: 20 and 15 agreed of 50, by chance 0.5
        ([(1, 1)] * 20 + [(1, 0)] * 5 + [(0, 1)] * 10 + [(0, 0)] * 15, 0.4),
        ([("a", "a")] * 4 + [("b", "b")] * 3 + [("c", "b")] * 3, 1 - 0.3 / (1 - 0.34)),
    ],
)
def test_kappa(pairs: list[tuple[Any, Any]], expected: float | None) -> None:
    assert kappa(pairs) == (None if expected is None else pytest.approx(expected))


def test_a_summary_has_the_worst_of_what_stop_rules_ask_for() -> None:
    agreements = [
        Agreement(
            dice={"left": 0.9, "right": 1.0},
            volume_ml={"left": (100.0, 90.0), "right": (100.0, 100.0)},
            present={"left": (True, True)},
        ),
        Agreement(
            dice={"left": 0.7, "right": 0.6},
            volume_ml={"left": (100.0, 130.0), "right": (100.0, 98.0)},
            present={"left": (True, False)},
        ),
    ]
    found = summary_of(agreements, [(1.0, 2.0), (3.0, 9.0), (2.0, 4.0)], failures=2)
    assert (found.studies, found.failures) == (2, 2)
    assert found.dice == pytest.approx((0.9 + 0.6) / 2)
    assert found.dice_lowest == 0.6
    assert found.dice_by_segment == {"left": pytest.approx(0.8), "right": pytest.approx(0.8)}
    assert found.volume_share == pytest.approx(0.2)
    assert found.volume_ml_by_segment == {"left": pytest.approx(20), "right": pytest.approx(1)}
    assert found.flips == 0.5
    assert (found.current_s, found.candidate_s, found.slower) == (2.0, 4.0, 2.0)


def test_probabilities_and_kappas_are_summed_up_by_class() -> None:
    agreements = [
        Agreement(
            probability={"a": (0.2, 0.3)},
            present={"a": (mine, theirs)},
            grade=("limited", "limited") if mine else ("diagnostic", "diagnostic"),
        )
        for mine, theirs in [(True, True), (False, False), (True, False), (False, True)]
    ]
    found = summary_of(agreements)
    assert found.kappa_by_class == {"a": pytest.approx(0.0), "grade": pytest.approx(1.0)}
    assert found.kappa == pytest.approx(0.0)
    assert found.probability == pytest.approx(0.1)
    assert found.slower is None


def test_of_nothing_nothing_can_be_said() -> None:
    assert summary_of([]) == Summary()


# ---------------------------------------------------------------- stop rules

GOOD = Summary(
    studies=20,
    failures=2,
    dice=0.95,
    volume_share=0.05,
    kappa=0.9,
    flips=0.02,
    current_s=1.0,
    candidate_s=1.5,
)
STRICT = StopRule(
    dice_below=0.9, volume_above=0.1, kappa_below=0.8, flips_above=0.05, slower_than=2.0
)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"dice": 0.9}, ""),  # the bound itself is good enough
        ({"dice": 0.899}, "Dice 0.899 over 20 studies (dice_below: 0.9)"),
        ({"volume_share": 0.11}, "volumes differ by 11.0% over 20 studies (volume_above: 10%)"),
        ({"kappa": 0.5}, "kappa 0.50 over 20 studies (kappa_below: 0.8)"),
        ({"flips": 0.1}, "another class on 10.0% of 20 studies (flips_above: 5%)"),
        ({"candidate_s": 2.1}, "2.1 times as slow over 20 studies (slower_than: 2x)"),
        ({"failures": 3}, "failed on 3 studies (failures: 3)"),
        ({"failures": 3, "studies": 0}, "failed on 3 studies (failures: 3)"),
        ({"dice": 0.1, "kappa": 0.1, "studies": 19}, ""),  # too few to say so
        ({"dice": None, "kappa": None}, ""),  # what is not known stops nothing
        (
            {"kappa": 0.5, "failures": 4},
            "failed on 4 studies (failures: 3); kappa 0.50 over 20 studies (kappa_below: 0.8)",
        ),
    ],
)
def test_a_trial_is_over_when_its_rule_says_so(changes: dict[str, Any], reason: str) -> None:
    assert why_to_stop(replace(GOOD, **changes), STRICT) == reason


def test_what_a_rule_does_not_name_stops_nothing() -> None:
    bad = Summary(studies=100, dice=0.0, kappa=-1.0, flips=1.0, current_s=1.0, candidate_s=99.0)
    assert why_to_stop(bad, StopRule()) == ""
