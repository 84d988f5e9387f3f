"""A TensorRT that is none: as much of its interface as we use, computed by onnxruntime.

    module.py    what `import tensorrt` gives, made anew for each test
    building.py  parser, builder and their kin: a plan is the ONNX file and its shapes
    running.py   plans at work: on the addresses that they are given, in the order of a stream
    faults.py    counting calls, and letting one of them fail

Memory of the device is taken for memory of the host, as on the fake driver in `tests/fake_cuda`.
"""

from tests.stand_in_tensorrt.faults import Faults
from tests.stand_in_tensorrt.module import make_tensorrt

__all__ = ["Faults", "make_tensorrt"]
