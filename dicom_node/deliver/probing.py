"""Which encodings a destination takes: asked by an association that sends nothing."""

from __future__ import annotations

from collections.abc import Collection

import structlog
from pydicom.uid import ImplicitVRLittleEndian, RLELossless, SegmentationStorage

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.deliver.patience import probe_wait_s
from dicom_node.errors import PeerUnreachable
from dicom_node.ledger.ledger import Ledger
from dicom_node.scu.peers import address_of
from dicom_node.uid import LABELMAP_SEGMENTATION_STORAGE

log = structlog.get_logger()

_VERIFICATION = ("1.2.840.10008.1.1", str(ImplicitVRLittleEndian))
_ASKED_FOR = {
    "label_maps": (LABELMAP_SEGMENTATION_STORAGE, str(RLELossless)),
    "fractions": (str(SegmentationStorage), str(RLELossless)),
}
"""BINARY, which is not run-length encoded, every archive takes: nobody is asked for it."""
_ASK_AGAIN_S = 86_400.0


class Prober:
    """Asks destinations whose profile says `auto`: at the start, and again each day.

    So what an archive takes is known before the first result for it is encoded. One that cannot be
    reached is asked until it answers; its results are BINARY until then.

    Parameters
    ----------
    destinations : collection of str
        Those to ask; one that is spoken to by STOW-RS alone negotiates nothing and is not asked.
    """

    def __init__(
        self, config: Config, ledger: Ledger, clock: Clock, destinations: Collection[str]
    ) -> None:
        self._settings = config.deliver
        self._ledger = ledger
        self._clock = clock
        self._addresses = {
            name: address_of(peer, config)
            for name, peer in config.called.items()
            if name in destinations
        }
        self._next_at: dict[str, float] = {}
        self._failures: dict[str, int] = {}

    @property
    def destinations(self) -> Collection[str]:
        """All that are ever asked."""
        return self._addresses.keys()

    def due(self) -> list[str]:
        """Return the destinations that are to be asked now."""
        now = self._clock()
        # a clock may be set back
        return [one for one in self._addresses if not 0 < self._ask_at(one) - now <= _ASK_AGAIN_S]

    def turn(self, destination: str) -> None:
        """Ask a destination, and remember what it says."""
        address = self._addresses[destination]
        failures = self._failures.get(destination, 0)
        wait_s = probe_wait_s(destination, failures, self._settings)
        # until it answers: whatever goes wrong, it is not asked again at once
        self._failures[destination] = failures + 1
        self._next_at[destination] = self._clock() + wait_s
        try:
            with address.associate([*_ASKED_FOR.values(), _VERIFICATION]) as requestor:
                said = {
                    what: requestor.accepts_context(context) for what, context in _ASKED_FOR.items()
                }
        except PeerUnreachable:
            return
        now = self._clock()
        for what, (sop_class_uid, _) in _ASKED_FOR.items():
            self._ledger.acceptances.note(destination, sop_class_uid, accepted=said[what], now=now)
        del self._failures[destination]
        self._next_at[destination] = now + _ASK_AGAIN_S
        log.info("encodings_asked_for", destination=destination, **said)

    def _ask_at(self, destination: str) -> float:
        if destination not in self._next_at:
            told = [
                self._ledger.acceptances.asked_at(destination, sop_class_uid)
                for sop_class_uid, _ in _ASKED_FOR.values()
            ]
            times = [at for at in told if at is not None]
            known = len(times) == len(told)
            self._next_at[destination] = min(times) + _ASK_AGAIN_S if known else 0.0
        return self._next_at[destination]
