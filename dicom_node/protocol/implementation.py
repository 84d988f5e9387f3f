"""What we call ourselves wherever DICOM asks (PS3.7 D.3.3.2, PS3.10 7.1)."""

from __future__ import annotations

from dicom_node import __version__
from dicom_node.uid import derived_uid

IMPLEMENTATION_CLASS_UID = derived_uid("dicom_node", "implementation class")
IMPLEMENTATION_VERSION_NAME = f"DICOM_NODE_{__version__}"[:16]
