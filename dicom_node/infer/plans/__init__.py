"""TensorRT's plans: built from an ONNX file on the machine that runs them, kept, checked."""
