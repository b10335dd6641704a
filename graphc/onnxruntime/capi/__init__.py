"""Where ONNX Runtime has its exceptions and its inner classes."""
