"""When to try again what a peer did not take, and when to stop: pure."""

from __future__ import annotations

from dicom_node.backoff import delay_s, jittered_s
from dicom_node.config.settings import DeliverSettings
from dicom_node.model import Commitment, Delivery, ForwardTask

FAILURES_MIN = 8
"""A clock that was wrong at boot must not end what was hardly tried."""

PROBE_LONGEST_S = 300.0
"""A C-ECHO costs nobody anything: who is back after a weekend is found within minutes."""


def wait_s(
    tried: Delivery | ForwardTask | Commitment, settings: DeliverSettings, now: float
) -> float | None:
    """Return how long to wait after one more failure; None if it was tried for long enough."""
    is_old = now - tried.tried_since > settings.give_up_after_h * 3600
    if is_old and tried.failures >= FAILURES_MIN:
        return None
    seed = f"{type(tried).__name__} {tried.created_at} {_key(tried)}"
    return next_wait_s(tried.failures, settings, seed)


def next_wait_s(failures: int, settings: DeliverSettings, seed: str) -> float:
    """Return how long to wait where so many failures came before this one.

    Parameters
    ----------
    seed : str
        Whose wait it is: its chance depends on nothing else.
    """
    delay = delay_s(failures + 1, settings.retry_first_s, settings.retry_longest_s)
    return jittered_s(delay, settings.jitter, f"{seed} {failures}")


def probe_wait_s(destination: str, failures: int, settings: DeliverSettings) -> float:
    """Return how long to wait until a destination that does not answer is probed again."""
    return min(next_wait_s(failures, settings, destination), PROBE_LONGEST_S)


def _key(tried: Delivery | ForwardTask | Commitment) -> int:
    if isinstance(tried, Delivery):
        return tried.delivery_id
    return tried.forward_id if isinstance(tried, ForwardTask) else tried.commitment_id
