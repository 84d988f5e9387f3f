"""What a node does before it starts: its folder is made durably, and taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from dicom_node.config.settings import Config, NodeSettings, Peer
from dicom_node.errors import ConfigError
from dicom_node.node import Node, _lock_data_dir
from dicom_node.plan import Plan
from dicom_node.route.rules import RuleSet


def config_of(data_dir: Path) -> Config:
    peers = {"scanner": Peer(ae_title="SCANNER", may_send=True)}
    return Config(node=NodeSettings(data_dir=data_dir), peers=peers)


def test_only_the_store_makes_the_data_folder_since_it_makes_it_durable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be used"):
        _lock_data_dir(config_of(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_data_folder_that_cannot_be_made_is_a_mistake_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be used") as caught:
        Node(Plan(config_of(tmp_path / "file" / "data"), {}, RuleSet()))
    assert "node.data_dir" in caught.value.hint
