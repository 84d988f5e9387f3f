"""A plan as the path on the GPU uses it: addresses in and out, see `gpu.network.DeviceNetwork`."""

from __future__ import annotations

from dicom_node.errors import EngineError
from dicom_node.infer.gpu.network import ELEMENT_BYTES, End, Shape
from dicom_node.infer.plans.loaded import Context, Loaded, Tensor

_ALIGNED = 256


class PlanNetwork:
    """A network of one input, and the one of its outputs that is wanted, on a stream at a time.

    Other outputs have to be written somewhere: behind what TensorRT works in, in the same block.

    Parameters
    ----------
    loaded : Loaded
        It may have more networks like this one; who loaded it closes it after all of them.
    output : str
        The output that is wanted.

    Raises
    ------
    EngineError
        If the plan has several inputs, no such output, or ends that the path does not know.
    """

    def __init__(self, loaded: Loaded, output: str) -> None:
        if len(loaded.inputs) != 1:
            raise EngineError(f"{loaded.name} wants {len(loaded.inputs)} inputs; one is given")
        wanted = [one for one in loaded.outputs if one.name == output]
        if not wanted:
            names = ", ".join(one.name for one in loaded.outputs)
            raise EngineError(f"{loaded.name} has no output {output}, but {names}")
        (self._input,) = loaded.inputs
        self._unwanted = tuple(one for one in loaded.outputs if one.name != output)
        self._name = loaded.name
        self._scratch = (0, 0)
        self._context: Context = loaded.context()
        self.input = _end(loaded.name, self._input)
        self.output = _end(loaded.name, wanted[0])
        profile = self._input.profile
        self.batch_max = profile.largest[0] if profile else self._input.shape[0]
        self.resident_bytes = loaded.resident_bytes + self._context.own_bytes

    def scratch_bytes(self, shape: Shape) -> int:
        """Return the memory that it works in; see `DeviceNetwork.scratch_bytes`."""
        return self._unwanted_at(shape)[1]

    def use_scratch(self, address: int, size_bytes: int) -> None:
        """Work in this block from now on; see `DeviceNetwork.use_scratch`."""
        self._scratch = (address, size_bytes)
        self._context.use_scratch(address, size_bytes)

    def enqueue(self, shape: Shape, input_address: int, output_address: int, stream: int) -> None:
        """Put one run on a stream; see `DeviceNetwork.enqueue`."""
        offsets, needed = self._unwanted_at(shape)
        scratch, size_bytes = self._scratch
        if needed > size_bytes:
            raise EngineError(f"{self._name} needs a block of {needed} bytes, not {size_bytes}")
        addresses = {self._input.name: input_address, self.output.name: output_address}
        addresses |= {name: scratch + at for name, at in offsets.items()}
        self._context.enqueue(addresses, stream)

    def close(self) -> None:
        """Free what runs it; may be called twice."""
        self._context.close()

    def _unwanted_at(self, shape: Shape) -> tuple[dict[str, int], int]:
        """Return where the other outputs lie in the block for this shape, and its size."""
        shapes = self._context.shape({self._input.name: shape})
        at = _aligned(self._context.scratch_bytes)
        offsets = {}
        for one in self._unwanted:
            offsets[one.name] = at
            at += _aligned(one.size_bytes(shapes[one.name]))
        return offsets, at


def _end(file: str, tensor: Tensor) -> End:
    for dtype in ELEMENT_BYTES:
        if tensor.dtype == dtype and len(tensor.shape) >= 2 and tensor.shape[1] > 0:
            return End(tensor.name, dtype, tensor.shape[1])
    raise EngineError(
        f"{file}: {tensor.name} is {tensor.dtype} of shape {tensor.shape}; the GPU's path needs "
        f"{', '.join(ELEMENT_BYTES)}, and a number of channels"
    )


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNED) * _ALIGNED
