"""Packages of PyPI that import onnxruntime, with graphc in its place."""
