"""A model of Keras as ONNX, where Keras is installed; the node itself does not need it."""

from __future__ import annotations

from pathlib import Path

from dicom_node.errors import EngineError

_SIDE = 64
"""Of an open axis, to call a model once: any that its poolings leave something of."""
_INSTALL = "pip install keras tensorflow-cpu tf2onnx, here or where the model was trained"


def export_onnx(source: Path, target: Path) -> None:
    """Write the ONNX of a .keras file.

    Code that the file brings along (Lambda layers) is not run: Keras's safe mode stays on.

    Raises
    ------
    EngineError
        If Keras or its exporter is not installed, or cannot read or export the model.
    """
    try:
        import keras
    except ImportError as error:
        raise EngineError(
            f"{source.name} is a model of Keras, which is not installed here",
            hint=f"{_INSTALL}; or there: model.export('model.onnx', format='onnx')",
        ) from error
    try:
        model = keras.saving.load_model(source, compile=False)
        # Keras exports no model that has never been called.
        zeros = [keras.ops.zeros([side or _SIDE for side in each.shape]) for each in model.inputs]
        model(zeros[0] if len(zeros) == 1 else zeros)
        model.export(target, format="onnx", verbose=False)
    except ImportError as error:
        raise EngineError(f"{source.name} cannot be exported: {error}", hint=_INSTALL) from error
    except Exception as error:  # Keras and its backends have no base for theirs
        words = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise EngineError(f"{source.name} cannot be exported: {words}") from error
