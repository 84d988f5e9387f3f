"""Conditions on attributes, as rules and engines write them."""

from dicom_node.conditions.keywords import OWN_KEYWORDS
from dicom_node.conditions.parsing import parse_conditions, parse_rule_conditions
from dicom_node.conditions.tree import All, Answer, AnyOf, Condition, Missing, Node, Not, Outcome

__all__ = [
    "OWN_KEYWORDS",
    "All",
    "Answer",
    "AnyOf",
    "Condition",
    "Missing",
    "Node",
    "Not",
    "Outcome",
    "parse_conditions",
    "parse_rule_conditions",
]
