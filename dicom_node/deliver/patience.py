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
    peer = tried.calling_ae_title if isinstance(tried, Commitment) else tried.destination
    return next_wait_s(tried.failures, settings, f"{peer} {now}")


def next_wait_s(failures: int, settings: DeliverSettings, seed: str) -> float:
    """Return how long to wait where so many failures came before this one.

    Parameters
    ----------
    seed : str
        On which its chance depends. What failed together, at one peer at one time, has the same: so
        it is tried together again, over one association.
    """
    delay = delay_s(failures + 1, settings.retry_first_s, settings.retry_longest_s)
    return jittered_s(delay, settings.jitter, f"{seed} {failures}")


def probe_wait_s(destination: str, failures: int, settings: DeliverSettings) -> float:
    """Return how long to wait until a destination that does not answer is probed again."""
    longest_s = min(PROBE_LONGEST_S, settings.retry_longest_s)
    delay = delay_s(failures + 1, settings.retry_first_s, longest_s)
    return jittered_s(delay, settings.jitter, f"{destination} {failures}")
