"""What an archive holds of one patient: the studies among which priors are chosen."""

from __future__ import annotations

from dataclasses import replace

from dicom_node.errors import DeliveryError
from dicom_node.scu.address import Address
from dicom_node.scu.find import Level, Query
from dicom_node.scu.found import FoundStudy, text_in

STUDIES_MAX = 500
"""Of one patient: so many no person has, but a dummy Patient ID may."""


def find_priors(
    address: Address, patient_id: str, issuer_of_patient_id: str = "", *, study_date: str = ""
) -> list[FoundStudy]:
    """Return the studies that an archive holds of a patient.

    Patient ID and Study Date are keys that every archive matches (PS3.4 Table C.6-5). Description
    and modalities are only asked for: some archives match them in ways of their own. So is the
    issuer, since an archive that does not know it would find nothing. What a study shows is asked
    of its series: DCMTK's archive returns no Modalities in Study, and body parts stand there.
    Studies of other Patient IDs, which a `*` or `?` in this one would match, and of another issuer
    are left out.

    Parameters
    ----------
    study_date : str
        A date or range, as `prior_choice.study_date_range` makes it; empty for any.

    Returns
    -------
    list of FoundStudy
        In the archive's order; none if there is no Patient ID, which would match everybody's.

    Raises
    ------
    PeerUnreachable, PeerRefused, DeliveryError
        As `Query.find`; also if there are more than `STUDIES_MAX`.
    """
    if not patient_id.strip("*? "):
        return []
    with Query(address) as query:
        found = query.find(
            Level.STUDY,
            {
                "PatientID": patient_id,
                "IssuerOfPatientID": "",
                "PatientBirthDate": "",
                "StudyInstanceUID": "",
                "StudyDate": study_date,
                "StudyTime": "",
                "StudyDescription": "",
                "ModalitiesInStudy": "",
                "NumberOfStudyRelatedSeries": "",
                "NumberOfStudyRelatedInstances": "",
            },
            matches_max=STUDIES_MAX,
        )
        if not found.is_complete:  # the newest may be among those that did not come
            raise DeliveryError(
                f"{address.called_ae_title} has more than {STUDIES_MAX} studies of one patient",
                hint="have the rule want priors of fewer days",
            )
        return [
            _with_series(query, study)
            for study in map(FoundStudy.of, found.matches)
            if study.patient_id == patient_id.strip()
            and (
                not issuer_of_patient_id or study.issuer_of_patient_id in ("", issuer_of_patient_id)
            )
        ]


def _with_series(query: Query, study: FoundStudy) -> FoundStudy:
    """Return the study with what its series say: modalities, body parts, and how many they are."""
    keys = {
        "StudyInstanceUID": study.study_instance_uid,
        "SeriesInstanceUID": "",
        "Modality": "",
        "BodyPartExamined": "",
    }
    series = query.find(Level.SERIES, keys).matches
    modalities = {text_in(one, "Modality") for one in series} - {""}
    body_parts = {text_in(one, "BodyPartExamined") for one in series} - {""}
    return replace(
        study,
        modalities=tuple(sorted(modalities.union(study.modalities))),
        body_parts=tuple(sorted(body_parts)),
        series_count=len(series) if study.series_count is None else study.series_count,
    )
