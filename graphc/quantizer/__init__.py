"""Quantisation after training: a float model becomes one of integers, which any reader of ONNX knows (docs/quantize.md)."""

from graphc.quantizer.driver import QuantizedModel, quantize
from graphc.quantizer.report import LayerReport, Report
from graphc.quantizer.scheme import Scheme

__all__ = ["LayerReport", "QuantizedModel", "Report", "Scheme", "quantize"]
