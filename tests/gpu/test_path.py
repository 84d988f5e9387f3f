"""The whole path on a real GPU: the suite of tests/unit/infer/gpu, as it stands there."""

import pytest

from tests.gpu.conftest import lacking
from tests.unit.infer.gpu.test_path import *  # noqa: F403
from tests.unit.infer.gpu.test_path import engine as engine

pytestmark = pytest.mark.gpu

if reason := lacking():
    pytest.skip(reason, allow_module_level=True)
