"""ONNX files: models written for other programs, and read from them.

    ldl.onnx.export(model, "model.onnx", shape=(28, 28, 1))
    model = ldl.onnx.load("model.onnx")

`export_python` writes a model as a Python file that needs NumPy alone. ONNX files need the package:
pip install 'ldl[onnx]'.
"""

from ldl.onnx import dense, image_operators, images, sequences  # noqa: F401  they fill the tables
from ldl.onnx.export import export
from ldl.onnx.graph import register
from ldl.onnx.load import load
from ldl.onnx.source import export_python

__all__ = ["export", "export_python", "load", "register"]
