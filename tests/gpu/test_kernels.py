"""Each kernel on a real GPU: the suite of tests/unit/infer/gpu, as it stands there."""

import pytest

from tests.gpu.conftest import lacking
from tests.unit.infer.gpu.test_kernels import *  # noqa: F403
from tests.unit.infer.gpu.test_kernels import in_lab as in_lab

pytestmark = pytest.mark.gpu

if reason := lacking():
    pytest.skip(reason, allow_module_level=True)
