"""What the models come from, each kind in a module of its own, which needs its packages."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from dataclasses import dataclass

from exporters.frame import Case


@dataclass(frozen=True)
class Kind:
    """Its cases() gives the cases; it is imported where the packages are."""

    module: str
    packages: tuple[str, ...]


KINDS = {
    "torch": Kind("torch_models", ("torch", "onnxscript", "onnxruntime")),
    "huggingface": Kind("huggingface_models", ("torch", "onnxscript", "onnxruntime", "transformers")),
    "classical": Kind("classical", ("skl2onnx", "onnxmltools", "sklearn", "onnxruntime")),
    "keras": Kind("keras_models", ("keras", "onnxruntime")),
    "paddle": Kind("paddle_models", ("paddle", "paddle2onnx", "onnxruntime")),
}


def cases(kind: str) -> Iterator[Case]:
    found = KINDS[kind]
    yield from importlib.import_module(f"exporters.{found.module}").cases()
