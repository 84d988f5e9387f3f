"""How a destination gets originals: by STOW-RS where it has a stow_url, else by C-STORE."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from dicom_node.config.settings import Config, Peer
from dicom_node.deliver import store_scu, stow
from dicom_node.deliver.originals import Original
from dicom_node.errors import DeliveryError
from dicom_node.scu import qido
from dicom_node.scu.peers import address_of, web_address_of

SendOriginals = Callable[[Sequence[Original]], Iterator[DeliveryError | str]]


def originals_sender_of(peer: Peer, config: Config) -> SendOriginals:
    """Return what sends data sets to a destination; see `store_scu.send_originals`."""
    if peer.stow_url is None:
        return partial(store_scu.send_originals, address=address_of(peer, config))
    return partial(stow.send_originals, address=web_address_of(peer, config))


def echo(peer: Peer, config: Config) -> None:
    """Have a destination show that it is there.

    Raises
    ------
    PeerUnreachable, PeerRefused
        If it does not.
    """
    if peer.stow_url is None:
        store_scu.echo(address_of(peer, config))
    else:
        qido.echo(web_address_of(peer, config))
