"""Profiles as they are written: what is read from them, and every mistake with its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.coerce.profile import (
    BurnedIn,
    Copy,
    Deidentification,
    Hash,
    Map,
    Option,
    Profile,
    Remove,
    Replace,
    Set,
)
from dicom_node.coerce.profiles import load_profiles
from dicom_node.errors import ConfigError

WRITTEN = """\
rules: []
profiles:
  research:
    deidentify:
      options: [retain_longitudinal_modified_dates, clean_descriptors]
      burned_in_annotation: forward_if_declared_absent
    coerce:
      - set: {InstitutionName: Hospital A, StationName: "1", KVP: 120, ImageType: [A, B]}
      - copy: {from: StudyDescription, to: SeriesDescription}
      - remove: [PatientComments, RequestAttributesSequence]
      - map: {attribute: BodyPartExamined, values: {THORAX: CHEST}, otherwise: remove}
      - replace: {attribute: PatientID, pattern: "^0+", with: ""}
      - hash: [AccessionNumber]
  plain:
    deidentify:
"""


def file_with(folder: Path, text: str) -> Path:
    file = folder / "rules.yaml"
    file.write_text(text, "utf-8")
    return file


def test_what_is_written_is_read(tmp_path: Path) -> None:
    profiles = load_profiles(file_with(tmp_path, WRITTEN))
    assert profiles == {
        "research": Profile(
            "research",
            Deidentification(
                frozenset({Option.RETAIN_LONGITUDINAL_MODIFIED_DATES, Option.CLEAN_DESCRIPTORS}),
                BurnedIn.FORWARD_IF_DECLARED_ABSENT,
            ),
            (
                Set("InstitutionName", "Hospital A"),
                Set("StationName", "1"),
                Set("KVP", "120"),
                Set("ImageType", ["A", "B"]),
                Copy("StudyDescription", "SeriesDescription"),
                Remove("PatientComments"),
                Remove("RequestAttributesSequence"),
                Map("BodyPartExamined", {"THORAX": "CHEST"}, keeps_others=False),
                Replace("PatientID", "^0+", ""),
                Hash("AccessionNumber"),
            ),
        ),
        "plain": Profile("plain", Deidentification()),
    }
    assert profiles["plain"].deidentification == Deidentification(
        burned_in_annotation=BurnedIn.REFUSE
    )


def test_a_file_without_profiles_has_none(tmp_path: Path) -> None:
    assert load_profiles(file_with(tmp_path, "rules: []")) == {}


@pytest.mark.parametrize(
    ("written", "key", "message"),
    [
        ("[]", "", "must be a mapping with coerce, deidentify"),
        ("{}", "", "needs `deidentify` or `coerce`"),
        ("{hide: all}", "hide", "no such key"),
        ("{deidentify: yes}", "deidentify", "must be a mapping"),
        ("{deidentify: {options: clean_descriptors}}", "deidentify.options", "must be a list"),
        ("{deidentify: {options: [keep_all]}}", "deidentify.options.0", "must be one of clean_g"),
        (
            "{deidentify: {options: [clean_pixel_data]}}",
            "deidentify.options.0",
            "is not offered: the node changes no pixels",
        ),
        (
            "{deidentify: {options: [clean_recognizable_visual_features]}}",
            "deidentify.options.0",
            "is not offered",
        ),
        (
            "{deidentify: {options: [retain_longitudinal_full_dates,"
            " retain_longitudinal_modified_dates]}}",
            "deidentify.options",
            "either retained in full or modified",
        ),
        (
            "{deidentify: {burned_in_annotation: ignore}}",
            "deidentify.burned_in_annotation",
            "must be one of refuse",
        ),
        ("{coerce: {set: {}}}", "coerce", "must be a list of operations"),
        ("{coerce: [{add: x}]}", "coerce.0", "must have one key of set, copy"),
        ("{coerce: [{set: [x]}]}", "coerce.0.set", "must map keywords to values"),
        ("{coerce: [{set: {Nonsense: x}}]}", "coerce.0.set.Nonsense", "is no keyword"),
        ("{coerce: [{set: {StudyInstanceUID: '1.2'}}]}", "coerce.0.set.StudyInstanceUID", "UIDs"),
        ("{coerce: [{set: {Rows: 5}}]}", "coerce.0.set.Rows", "how the pixels are read"),
        ("{coerce: [{set: {PixelData: x}}]}", "coerce.0.set.PixelData", "or the pixels"),
        ("{coerce: [{set: {TransferSyntaxUID: x}}]}", "coerce.0.set.TransferSyntaxUID", "UIDs"),
        ("{coerce: [{set: {ContentSequence: x}}]}", "coerce.0.set.ContentSequence", "VR SQ"),
        (
            "{coerce: [{set: {PatientIdentityRemoved: 'NO'}}]}",
            "coerce.0.set.PatientIdentityRemoved",
            "the node sets it itself",
        ),
        ("{coerce: [{set: {StudyDate: '2024-01-02'}}]}", "coerce.0.set.StudyDate", "is no value"),
        ("{coerce: [{set: {StudyDate: 20240102}}]}", "coerce.0.set.StudyDate", "in quotes"),
        (
            "{coerce: [{set: {StationName: 12345678901234567}}]}",
            "coerce.0.set.StationName",
            "in quotes",
        ),
        (
            "{coerce: [{set: {StationName: 'a very long station'}}]}",
            "coerce.0.set.StationName",
            "is no value of StationName",
        ),
        ("{coerce: [{set: {StationName: 'a\\b'}}]}", "coerce.0.set.StationName", "write a list"),
        ("{coerce: [{set: {StationName: [a, b]}}]}", "coerce.0.set.StationName", "1 values, not 2"),
        ("{deidentify: {options: [[a]]}}", "deidentify.options.0", "must be one of clean_g"),
        ("{coerce: [{set: {StageNumber: 1.5}}]}", "coerce.0.set.StageNumber", "is no value"),
        ("{coerce: [{set: {SeriesInStudy: [1, 2]}}]}", "coerce.0.set.SeriesInStudy", "1 values"),
        ("{coerce: [{set: {KVP: loud}}]}", "coerce.0.set.KVP", "is no value"),
        ("{coerce: [{set: {CineRate: '5.5'}}]}", "coerce.0.set.CineRate", "is no value"),
        ("{coerce: [{set: {SeriesNumber: true}}]}", "coerce.0.set.SeriesNumber", "is no value"),
        ("{coerce: [{set: {EchoPulseRate: 1}}]}", "coerce.0.set.EchoPulseRate", "is no keyword"),
        ("{coerce: [{set: {TableAngle: x}}]}", "coerce.0.set.TableAngle", "is no value"),
        (
            "{coerce: [{set: {ReconstructionAngle: x}}]}",
            "coerce.0.set.ReconstructionAngle",
            "is a number",
        ),
        ("{coerce: [{copy: {from: StudyID}}]}", "coerce.0.copy", "needs to"),
        ("{coerce: [{copy: {from: Rows, to: StudyID}}]}", "coerce.0.copy.from", "is no text"),
        ("{coerce: [{copy: {from: X, to: StudyID}}]}", "coerce.0.copy.from", "is no keyword"),
        ("{coerce: [{copy: {from: StudyID, to: Rows}}]}", "coerce.0.copy.to", "pixels"),
        ("{coerce: [{remove: PatientID}]}", "coerce.0.remove", "must be a list of keywords"),
        ("{coerce: [{remove: [SOPInstanceUID]}]}", "coerce.0.remove.0", "UIDs"),
        ("{coerce: [{hash: [StudyDate]}]}", "coerce.0.hash.0", "no value of VR DA"),
        ("{coerce: [{map: {attribute: BodyPartExamined}}]}", "coerce.0.map", "needs values"),
        (
            "{coerce: [{map: {attribute: BodyPartExamined, values: {A: chest}}}]}",
            "coerce.0.map.values.A",
            "is no value of BodyPartExamined",
        ),
        (
            "{coerce: [{map: {attribute: StudyID, values: {A: B}, otherwise: drop}}]}",
            "coerce.0.map.otherwise",
            "must be keep or remove",
        ),
        (
            "{coerce: [{replace: {attribute: StudyID, pattern: '(', with: ''}}]}",
            "coerce.0.replace.pattern",
            "is no regular expression",
        ),
        (
            r"{coerce: [{replace: {attribute: StudyID, pattern: a, with: '\2'}}]}",
            "coerce.0.replace.pattern",
            "is no regular expression",
        ),
    ],
)
def test_a_mistake_is_told_with_its_place(
    written: str, key: str, message: str, tmp_path: Path
) -> None:
    file = file_with(tmp_path, f"rules: []\nprofiles:\n  p: {written}\n")
    with pytest.raises(ConfigError) as raised:
        load_profiles(file)
    [mistake] = raised.value.mistakes
    assert mistake.key == ".".join(filter(None, ("profiles.p", key)))
    assert message in mistake.message
    assert mistake.line == 3


def test_all_mistakes_are_told_at_once_and_the_other_profiles_are_read(tmp_path: Path) -> None:
    text = "profiles:\n  a: {}\n  b: {x: 1}\n  c: {deidentify: {options: [q]}}\n"
    with pytest.raises(ConfigError) as raised:
        load_profiles(file_with(tmp_path, text))
    assert [mistake.line for mistake in raised.value.mistakes] == [2, 3, 4]


def test_profiles_must_be_a_mapping(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a mapping of names"):
        load_profiles(file_with(tmp_path, "profiles: [a]\n"))
