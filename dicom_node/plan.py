"""What was read at start, checked as a whole: the configuration, its engines, its rules."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from dicom_node import certificates
from dicom_node.clock import Clock
from dicom_node.config.settings import Config
from dicom_node.history.keeper import HeaderKeeper
from dicom_node.history.keywords import KeepPolicy
from dicom_node.infer.engine_folders import list_engines
from dicom_node.infer.manifest import Manifest
from dicom_node.infer.parameters import facts_known, parameters_of
from dicom_node.ledger.ledger import Ledger
from dicom_node.route.gather import Gatherer
from dicom_node.route.router import EngineLabel, Router
from dicom_node.route.rules import RuleSet
from dicom_node.route.rules_file import EngineWords, Names, ParameterRange, load_rules
from dicom_node.store.local import LocalStore
from dicom_node.store.secret import load_or_make_secret


@dataclass(frozen=True)
class Plan:
    """The configuration with everything that it names."""

    config: Config
    engines: dict[str, Manifest]
    rules: RuleSet

    @property
    def labels(self) -> dict[str, EngineLabel]:
        """What the router must know of each engine."""
        return {
            name: EngineLabel(manifest.version, manifest.model_digest, manifest.reads_study)
            for name, manifest in self.engines.items()
        }

    @property
    def image_engines(self) -> frozenset[str]:
        """Those that say something of single images, so that several jobs can be done together."""
        return frozenset(
            name
            for name, manifest in self.engines.items()
            if manifest.image is not None and not manifest.segments
        )

    @property
    def peer_names(self) -> dict[str, str]:
        """The name in the configuration of each AE title that may send."""
        return {peer.ae_title: name for name, peer in self.config.peers.items()}

    @property
    def names(self) -> Names:
        """What rules may name."""
        return names_for_rules(self.config, self.engines)

    def keep_policy(self, key: bytes, more: frozenset[str] = frozenset()) -> KeepPolicy:
        """Which header attributes are kept; `key` is that of the hashes."""
        history = self.config.history
        return KeepPolicy(
            self.rules.keywords | frozenset(history.attributes) | more,
            frozenset(history.clear_attributes),
            key,
        )


def load_plan(config: Config) -> Plan:
    """Read the engines and the rules that the configuration names.

    Raises
    ------
    ConfigError
        With every mistake in them.
    """
    if config.tls.port is not None:
        certificates.load(config.tls)
    engines = list_engines(config.node.engines_dir)
    rules = load_rules(config.node.rules_file, names_for_rules(config, engines))
    return Plan(config, engines, rules)


def names_for_rules(config: Config, engines: Mapping[str, Manifest]) -> Names:
    """Return what rules may name."""
    words = {name: words_of(manifest) for name, manifest in engines.items()}
    return Names(words, frozenset(config.destinations), config.not_admitted, config.not_called)


def words_of(manifest: Manifest) -> EngineWords:
    """Return what rules may say of an engine."""
    parameters = {name: ParameterRange(*limits) for name, limits in parameters_of(manifest).items()}
    return EngineWords(parameters, facts_known(manifest), str(manifest.kind))


def build_router(plan: Plan, ledger: Ledger, clock: Clock = time.time) -> Router:
    """Return the route stage on its own, for `explain`."""
    gatherer = build_gatherer(plan, ledger, plan.rules.keywords)
    return Router(ledger, gatherer, plan.rules, plan.labels, clock)


def build_gatherer(plan: Plan, ledger: Ledger, keywords: frozenset[str]) -> Gatherer:
    """Return what gathers the facts of studies, for who asks rules without routing."""
    store = LocalStore(plan.config.node.data_dir)
    policy = plan.keep_policy(load_or_make_secret(plan.config.secret_file), keywords)
    return Gatherer(ledger, HeaderKeeper(ledger, store, policy), plan.peer_names)
