"""What an archive holds of one patient: the studies among which priors are chosen."""

from __future__ import annotations

from dicom_node.errors import DeliveryError
from dicom_node.scu.address import Address
from dicom_node.scu.find import Level, find
from dicom_node.scu.found import FoundStudy

STUDIES_MAX = 500
"""Of one patient: so many no person has, but a dummy Patient ID may."""


def find_priors(
    address: Address, patient_id: str, issuer_of_patient_id: str = "", *, study_date: str = ""
) -> list[FoundStudy]:
    """Return the studies that an archive holds of a patient.

    Patient ID and Study Date are keys that every archive matches (PS3.4 Table C.6-5). Modalities,
    description and body part are only asked for: some archives match them in ways of their own, and
    an archive that does not know the issuer would find nothing. Studies of other Patient IDs, which
    a `*` or `?` in this one would match, and of another issuer are left out.

    Parameters
    ----------
    study_date : str
        A date or range, as `route.priors.study_date_range` makes it; empty for any.

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
    found = find(
        address,
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
            "BodyPartExamined": "",
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
    studies = [FoundStudy.of(match) for match in found.matches]
    return [
        study
        for study in studies
        if study.patient_id == patient_id.strip()
        and (not issuer_of_patient_id or study.issuer_of_patient_id in ("", issuer_of_patient_id))
    ]
