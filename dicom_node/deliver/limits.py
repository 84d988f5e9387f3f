"""How much a destination gets in a minute: a bucket of instances and one of bytes."""

from __future__ import annotations

_MINUTE_S = 60.0
_BURST_S = 10.0
"""What may go out at once after a pause: so many seconds' worth, and one instance at least."""


class Bucket:
    """Fills steadily up to its brim; what is taken may leave it in debt, which is paid off first.

    So an instance that is larger than the brim goes out, too, and the rate holds on average.
    """

    def __init__(self, per_minute: float, brim_min: float = 0.0) -> None:
        self._per_s = per_minute / _MINUTE_S
        self._brim = max(brim_min, self._per_s * _BURST_S)
        self._level = self._brim
        self._at: float | None = None

    def has_some(self, now: float) -> bool:
        """Return whether anything may be taken."""
        if self._at is not None:
            passed_s = max(0.0, now - self._at)  # a clock may be set back
            self._level = min(self._brim, self._level + passed_s * self._per_s)
        self._at = now
        return self._level > 0

    def take(self, amount: float) -> None:
        self._level -= amount


class Limiter:
    """Both buckets of one destination; a limit of None does not limit."""

    def __init__(
        self, instances_per_minute: float | None, megabytes_per_minute: float | None
    ) -> None:
        self._instances = instances_per_minute and Bucket(instances_per_minute, 1.0)
        self._bytes = megabytes_per_minute and Bucket(megabytes_per_minute * 1e6)

    def has_room(self, now: float) -> bool:
        """Return whether one more instance may go out."""
        return all(bucket.has_some(now) for bucket in (self._instances, self._bytes) if bucket)

    def spend(self, instances: int, size_bytes: int) -> None:
        """Take note of what goes out."""
        if self._instances:
            self._instances.take(instances)
        if self._bytes:
            self._bytes.take(size_bytes)
