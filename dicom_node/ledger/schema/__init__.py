"""The tables, by noun. The CHECK on each state column is generated from lifecycle.py."""

from __future__ import annotations

from dicom_node.ledger.schema.arrival import associations, carried, instances, receive_logs, studies
from dicom_node.ledger.schema.base import metadata
from dicom_node.ledger.schema.delivery import acceptances, breakers, deliveries, results
from dicom_node.ledger.schema.event import events
from dicom_node.ledger.schema.evidence import (
    announced_instances,
    announced_studies,
    announcements,
    commitment_references,
    commitments,
)
from dicom_node.ledger.schema.forwarding import (
    consignments,
    crosswalk,
    forwarded_instances,
    forwards,
)
from dicom_node.ledger.schema.header import header_keysets, instance_headers, series_headers
from dicom_node.ledger.schema.judgement import paces, verdicts
from dicom_node.ledger.schema.prior import fetched_priors, prior_fetches
from dicom_node.ledger.schema.ruling import awaited_findings, decisions, drops, rule_sets
from dicom_node.ledger.schema.work import comparisons, jobs, trials

__all__ = [
    "acceptances",
    "announced_instances",
    "announced_studies",
    "announcements",
    "associations",
    "awaited_findings",
    "breakers",
    "carried",
    "commitment_references",
    "commitments",
    "comparisons",
    "consignments",
    "crosswalk",
    "decisions",
    "deliveries",
    "drops",
    "events",
    "fetched_priors",
    "forwarded_instances",
    "forwards",
    "header_keysets",
    "instance_headers",
    "instances",
    "jobs",
    "metadata",
    "paces",
    "prior_fetches",
    "receive_logs",
    "results",
    "rule_sets",
    "series_headers",
    "studies",
    "trials",
    "verdicts",
]
