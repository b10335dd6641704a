"""The exceptions and the inner classes, by the names that ONNX Runtime's extension module has them."""

from graphc.onnxruntime.failures import DeviceReset as DeviceReset
from graphc.onnxruntime.failures import EngineError as EngineError
from graphc.onnxruntime.failures import EPFail as EPFail
from graphc.onnxruntime.failures import Fail as Fail
from graphc.onnxruntime.failures import InvalidArgument as InvalidArgument
from graphc.onnxruntime.failures import InvalidGraph as InvalidGraph
from graphc.onnxruntime.failures import InvalidProtobuf as InvalidProtobuf
from graphc.onnxruntime.failures import ModelLoadCanceled as ModelLoadCanceled
from graphc.onnxruntime.failures import ModelLoaded as ModelLoaded
from graphc.onnxruntime.failures import ModelRequiresCompilation as ModelRequiresCompilation
from graphc.onnxruntime.failures import NoModel as NoModel
from graphc.onnxruntime.failures import NoSuchFile as NoSuchFile
from graphc.onnxruntime.failures import NotFound as NotFound
from graphc.onnxruntime.failures import NotImplemented as NotImplemented  # noqa: A004
from graphc.onnxruntime.failures import RuntimeException as RuntimeException
from graphc.onnxruntime.nodes import ModelMetadata as ModelMetadata
from graphc.onnxruntime.nodes import NodeArg as NodeArg
from graphc.onnxruntime.options import ExecutionMode as ExecutionMode
from graphc.onnxruntime.options import ExecutionOrder as ExecutionOrder
from graphc.onnxruntime.options import GraphOptimizationLevel as GraphOptimizationLevel
from graphc.onnxruntime.options import RunOptions as RunOptions
from graphc.onnxruntime.options import SessionOptions as SessionOptions
from graphc.onnxruntime.options import get_all_providers as get_all_providers
from graphc.onnxruntime.options import get_available_providers as get_available_providers
from graphc.onnxruntime.values import OrtDevice as OrtDevice
from graphc.onnxruntime.values import OrtValue as OrtValue
