"""The operators of com.microsoft: what ONNX Runtime's quantiser and optimisers write into files."""
