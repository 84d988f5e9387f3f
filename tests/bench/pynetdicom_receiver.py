"""P, the peer: pynetdicom as its documentation writes a storage SCP, with a 128 KiB PDU.

As a program: `python -m tests.bench.pynetdicom_receiver PORT FOLDER`.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from pydicom._uid_dict import UID_dictionary
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.sop_class import Verification  # type: ignore[attr-defined]

_TRANSFER_SYNTAXES = [uid for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"]


def store(event: evt.Event, folder: Path) -> int:
    """Write the instance; only the benchmark's sender names the file."""
    request = cast(C_STORE, event.request)
    with (folder / str(request.AffectedSOPInstanceUID)).open("wb") as file:
        file.write(event.encoded_dataset())
    return 0x0000


def main() -> None:
    port, folder = int(sys.argv[1]), Path(sys.argv[2])
    ae = AE("ANY-SCP")
    ae.maximum_pdu_size = 131072
    ae.maximum_associations = 1000
    for context in AllStoragePresentationContexts:
        ae.add_supported_context(str(context.abstract_syntax), _TRANSFER_SYNTAXES)
    ae.add_supported_context(Verification)
    ae.start_server(("127.0.0.1", port), evt_handlers=[(evt.EVT_C_STORE, store, [folder])])


if __name__ == "__main__":
    main()
