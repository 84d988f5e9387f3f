"""When to try again what a peer did not take, and when to stop: pure."""

from __future__ import annotations

from dicom_node.backoff import delay_s
from dicom_node.config.settings import DeliverSettings
from dicom_node.model import Commitment, Delivery, ForwardTask

_FAILURES_MIN = 8
"""A clock that was wrong at boot must not end what was hardly tried."""


def wait_s(
    tried: Delivery | ForwardTask | Commitment, settings: DeliverSettings, now: float
) -> float | None:
    """Return how long to wait after one more failure; None if it was tried for long enough."""
    is_old = now - tried.tried_since > settings.give_up_after_h * 3600
    if is_old and tried.failures >= _FAILURES_MIN:
        return None
    return delay_s(tried.failures + 1, settings.retry_first_s, settings.retry_longest_s)
