"""Whether a destination is there, whatever protocol it speaks."""

from __future__ import annotations

from dicom_node.config.settings import Config, Peer
from dicom_node.deliver import store_scu
from dicom_node.scu import qido
from dicom_node.scu.peers import address_of, web_address_of


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
