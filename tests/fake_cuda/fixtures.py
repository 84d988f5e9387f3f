"""The fake driver under pycuda, for the conftest.py of a folder to import."""

from __future__ import annotations

import gc
import os
import warnings
from collections.abc import Iterator

import pytest

from tests.fake_cuda import build
from tests.fake_cuda.fake import FakeCuda, load


@pytest.fixture
def cuda() -> Iterator[FakeCuda]:
    """Return a fake driver with one device; nothing may be left on it afterwards.

    It stays loaded in this process, and has no device for the tests that do not ask for one.
    """
    if reason := build.missing():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    fake = load()
    fake.restart()
    yield fake
    overruns = fake.overruns
    left = [fake.used_bytes(device) for device in range(8)]
    with warnings.catch_warnings():
        # What a lost device could not free goes here, and not in the middle of another test.
        warnings.simplefilter("ignore")
        gc.collect()
    fake.restart()
    fake.set(devices=0)
    assert overruns == 0, "something was written behind the end of a block"
    assert not any(left), "a test left memory allocated"
