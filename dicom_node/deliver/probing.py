"""Whether a destination takes label maps: asked by an association that sends nothing."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from pydicom.uid import ImplicitVRLittleEndian, RLELossless

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.errors import PeerUnreachable
from dicom_node.ledger.ledger import Ledger
from dicom_node.scu.peers import address_of
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE

log = structlog.get_logger()

_VERIFICATION = ("1.2.840.10008.1.1", str(ImplicitVRLittleEndian))
_LABELMAP = (LABELMAP_SEGMENTATION_STORAGE, str(RLELossless))
_ASK_AGAIN_S = 86_400.0


class Prober:
    """Asks destinations whose profile says `labelmap: auto`, once a day, before they are sent to.

    The first results for a destination are therefore BINARY, which every archive takes.
    """

    def __init__(
        self, config: Config, ledger: Ledger, clock: Clock, destinations: Collection[str]
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._addresses = {
            name: address_of(peer, config)
            for name, peer in config.destinations.items()
            if name in destinations
        }

    def turn(self, destination: str) -> None:
        """Ask a destination, if it is time to; one that cannot be reached is asked later."""
        address = self._addresses.get(destination)
        if address is None:
            return
        now = self._clock()
        asked_at = self._ledger.acceptances.asked_at(destination, _LABELMAP[0])
        if asked_at is not None and 0 <= now - asked_at < _ASK_AGAIN_S:
            return
        try:
            with address.associate([_LABELMAP, _VERIFICATION]) as requestor:
                accepted = requestor.accepts_context(_LABELMAP)
        except PeerUnreachable:
            return
        self._ledger.acceptances.note(destination, _LABELMAP[0], accepted=accepted, now=now)
        log.info("label_maps_asked_for", destination=destination, accepted=accepted)
