"""A deliverer and a prover put together as the node does it."""

from __future__ import annotations

from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.deliver.deliverer import Deliverer
from dicom_node.deliver.dicom_archive import dicom_archives
from dicom_node.deliver.outlets import Outlets
from dicom_node.ledger.ledger import Ledger
from dicom_node.store.local import LocalStore


def deliverer_of(config: Config, ledger: Ledger, store: LocalStore, clock: Clock) -> Deliverer:
    """Return what sends to the destinations of a configuration, by DIMSE."""
    archives = dicom_archives(config, store)
    return Deliverer(config, ledger, archives, Outlets(config, ledger, archives, clock), clock)
