"""Whose study it is for which priors are sought: read from the stored file, and kept nowhere."""

from __future__ import annotations

from dicom_node.attributes import read_attributes
from dicom_node.errors import StorageError, StudyUnusable
from dicom_node.ledger.ledger import Ledger
from dicom_node.scu.found import FoundStudy
from dicom_node.store.local import LocalStore

_KEYWORDS = (
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
)


def read_current(
    ledger: Ledger, store: LocalStore, study_instance_uid: str, series_instance_uid: str
) -> FoundStudy:
    """Return patient and date of a study, by the first instance of a series that can be read.

    Raises
    ------
    StudyUnusable
        If none can.
    StorageError
        If the disk fails.
    """
    for instance in ledger.studies.instances(study_instance_uid, series_instance_uid):
        try:
            return FoundStudy.of(read_attributes(store.file(instance.path), _KEYWORDS))
        except StudyUnusable:
            continue  # the others of the series say the same
        except OSError as error:
            raise StorageError(
                f"an instance of ours cannot be read: {error.strerror}",
                hint="restore it from a backup of data_dir",
            ) from error
    raise StudyUnusable("no header of the series can be read", hint="have the sender send it again")
