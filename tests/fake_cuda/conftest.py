"""The fake driver under pycuda, in this process."""

from tests.fake_cuda.fixtures import cuda

__all__ = ["cuda"]
