"""Sessions, by the module that ONNX Runtime has them in."""

from graphc.onnxruntime.binding import IOBinding as IOBinding
from graphc.onnxruntime.session import InferenceSession as InferenceSession
from graphc.onnxruntime.values import OrtDevice as OrtDevice
from graphc.onnxruntime.values import OrtValue as OrtValue
