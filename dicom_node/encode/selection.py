"""What Key Object Selections have in common, whatever they select for (PS3.16 TID 2010)."""

from __future__ import annotations

from highdicom import sr
from pydicom.dataset import Dataset

from dicom_node.encode import identity
from dicom_node.encode.header import MANUFACTURER, Stamp
from dicom_node.finding import EngineIdentity


def selecting_device(engine: EngineIdentity, stamp: Stamp) -> sr.ObserverContext:
    """Return who selected: the engine, as the report names it (PS3.16 TID 1004)."""
    return sr.ObserverContext(
        observer_type=sr.CodedConcept("121007", "DCM", "Device"),
        observer_identifying_attributes=sr.DeviceObserverIdentifyingAttributes(
            uid=identity.device_uid(engine, stamp.node_name),
            name=engine.title,
            manufacturer_name=MANUFACTURER,
            model_name=engine.name,
            serial_number=stamp.node_name,
        ),
    )


def unname_references(document: Dataset) -> None:
    """Take the concept names from what is selected: TID 2010 has none, highdicom writes one."""
    for item in document.ContentSequence:
        if "ReferencedSOPSequence" in item:
            del item.ConceptNameCodeSequence
