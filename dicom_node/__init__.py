"""A DICOM node: receive -> assemble -> route -> infer -> encode -> deliver."""

__version__ = "0.1.0"
