"""Copies of originals: changed by a profile, or back into what belongs to the real study."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO

import pydicom
from pydicom.dataset import Dataset

from dicom_node.coerce.part10 import apply_to_file
from dicom_node.coerce.profile import Profile
from dicom_node.coerce.restore import restore
from dicom_node.data_sets import encode
from dicom_node.deliver.originals import Original, from_the_store, read_original
from dicom_node.errors import DeliveryError, StudyUnusable
from dicom_node.headers import reading
from dicom_node.ledger.ledger import Ledger
from dicom_node.model import RESTORED, Instance
from dicom_node.scu.content import Content, FilePart
from dicom_node.store.local import LocalStore


class Copies:
    """Makes what goes out of what lies in the store.

    Parameters
    ----------
    profiles : mapping of str to Profile
        By name; those of the rules in force.
    secret : bytes
        From which pseudonyms are derived.
    """

    def __init__(
        self, ledger: Ledger, store: LocalStore, profiles: Mapping[str, Profile], secret: bytes
    ) -> None:
        self._ledger = ledger
        self._store = store
        self._secret = secret
        self.profiles = profiles

    def copy(self, instance: Instance, profile: str) -> Original:
        """Return what goes out of an instance; empty `profile`: as it came.

        What was replaced is in the crosswalk when this returns.

        Raises
        ------
        StudyUnusable
            If it must not go out, or cannot be changed, with the reason.
        StorageError
            If it cannot be read.
        DeliveryError
            If there is no such profile.
        """
        if not profile:
            return read_original(self._store, instance)
        if profile == RESTORED:
            return self._restored(instance)
        if profile not in self.profiles:
            raise DeliveryError(
                f"there is no profile {profile} any more",
                hint="add it to the rules file again, or let the forward go dead",
            )
        return self._changed(instance, self.profiles[profile])

    def _changed(self, instance: Instance, profile: Profile) -> Original:
        stored = self._store.file(instance.path)
        with from_the_store(stored.name), stored.open() as file:
            copied = apply_to_file(file, profile, self._secret)
        self._ledger.crosswalk.record(copied.coerced.crosswalk_entries)
        begin = stored.offset + copied.pixels_offset
        pixels = FilePart(stored.path, begin, copied.pixels_length)
        return Original(
            copied.sop_class_uid,
            copied.sop_instance_uid,
            copied.transfer_syntax_uid,
            Content.of(copied.head[copied.data_set_offset :], pixels),
            _place_of(copied.coerced.dataset),
        )

    def _restored(self, instance: Instance) -> Original:
        entries = self._ledger.crosswalk.find(instance.study_instance_uid)
        stored = self._store.file(instance.path)
        with from_the_store(stored.name):
            content = stored.read_bytes()
        with reading("the result"):
            result = pydicom.dcmread(BytesIO(content), force=True)
        real = restore(result, entries)
        sop_instance_uid = str(real.get("SOPInstanceUID") or "")
        if not sop_instance_uid:
            raise StudyUnusable("it has no SOP Instance UID")
        return Original(
            instance.sop_class_uid,
            sop_instance_uid,
            instance.transfer_syntax_uid,
            Content.of(encode(real, instance.transfer_syntax_uid)),
            _place_of(real),
        )


def _place_of(copy: Dataset) -> tuple[str, str]:
    return str(copy.get("StudyInstanceUID") or ""), str(copy.get("SeriesInstanceUID") or "")
