"""Tensors in the words of the KServe v2 protocol, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_node.errors import EngineError
from dicom_node.infer.runtimes.ends import Ends, Tensor, check_answer
from dicom_node.infer.runtimes.kserve_http import Answer
from dicom_node.infer.runtimes.port import Arrays
from dicom_node.infer.runtimes.shared_memory import SharedRegion

_DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
}
_DATATYPES = {np.dtype(name): datatype for datatype, name in _DTYPES.items()}

IN_BINARY = {"parameters": {"binary_data": True}}
"""How an output is wanted: as bytes behind the header."""


def described(name: str, array: NDArray[Any]) -> dict[str, Any]:
    """Return an input's name, shape and type."""
    return {"name": name, "shape": list(array.shape), "datatype": _DATATYPES[array.dtype]}


def sent(array: NDArray[Any]) -> dict[str, Any]:
    """Return where an input is: behind the header."""
    return {"parameters": {"binary_data_size": array.nbytes}}


def shared(region: SharedRegion, offset: int, size_bytes: int) -> dict[str, Any]:
    """Return where a tensor is, or shall be put: in shared memory."""
    return {
        "parameters": {
            "shared_memory_region": region.name,
            "shared_memory_offset": offset,
            "shared_memory_byte_size": size_bytes,
        }
    }


def why_another(ends: Ends, metadata: Mapping[str, Any]) -> str:
    """Return in what a server's model differs from our file; empty if it can be the same.

    Parameters
    ----------
    ends : Ends
        Of our file.
    metadata : mapping
        The server's answer to v2/models/NAME.
    """
    try:
        for kind, ours in (("input", ends.inputs), ("output", ends.outputs)):
            theirs = {str(each["name"]): each for each in metadata[f"{kind}s"]}
            surplus = sorted(set(theirs) - {tensor.name for tensor in ours})
            if kind == "input" and surplus:
                return f"it also wants the input {', '.join(surplus)}"
            for tensor in ours:
                if tensor.name not in theirs:
                    return f"it has no {kind} {tensor.name}"
                datatype, shape = theirs[tensor.name]["datatype"], theirs[tensor.name]["shape"]
                if _DTYPES.get(datatype) != tensor.dtype or not _agree(tensor, shape):
                    return f"its {kind} {tensor.name} is {datatype} {list(shape)}, ours {tensor}"
    except (KeyError, TypeError) as error:
        return f"what it says of itself cannot be read: {error!r}"
    return ""


def read_outputs(
    what: str,
    wanted: Sequence[Tensor],
    answer: Answer,
    region: SharedRegion | None = None,
    placed: Mapping[str, int] | None = None,
) -> Arrays:
    """Return the outputs of an answer.

    Parameters
    ----------
    what : str
        The model, for messages.
    wanted : sequence of Tensor
    answer : Answer
    region, placed : SharedRegion and mapping, optional
        Where outputs were put, and at which offset which of them.

    Raises
    ------
    EngineError
        If it is not what was asked for.
    """
    by_name, placed = {tensor.name: tensor for tensor in wanted}, placed or {}
    outputs: dict[str, NDArray[Any]] = {}
    at = 0
    try:
        for output in answer.header["outputs"]:
            name, shape = str(output["name"]), tuple(int(side) for side in output["shape"])
            dtype = np.dtype(_DTYPES[output["datatype"]])
            if name not in by_name:
                raise ValueError(f"{name} was not asked for")
            check_answer(what, by_name[name], dtype, shape)
            size_bytes = output.get("parameters", {}).get("binary_data_size")
            if region is not None and name in placed:
                outputs[name] = region.read(placed[name], shape, dtype)
            elif size_bytes is None:  # a server without the binary extension
                outputs[name] = np.array(output["data"], dtype).reshape(shape)
            else:
                piece = answer.binary[at : at + size_bytes]
                outputs[name] = np.frombuffer(piece, dtype).reshape(shape)
                at += size_bytes
    except (KeyError, TypeError, ValueError) as error:
        raise EngineError(f"the answer of {what} cannot be read: {error}") from error
    if missing := sorted(set(by_name) - set(outputs)):
        raise EngineError(f"{what} did not answer {', '.join(missing)}")
    return outputs


def _agree(ours: Tensor, theirs: Sequence[int]) -> bool:
    """Return whether two declarations can mean the same shape; -1 is open there, a word here."""
    if ours.shape is None:
        return True
    return len(ours.shape) == len(theirs) and all(
        isinstance(our, str) or their in {-1, our}
        for our, their in zip(ours.shape, theirs, strict=True)
    )
