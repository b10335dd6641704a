"""Writes digits.onnx, the same network as digits.yaml with its weights inside, for programs that read ONNX."""

from __future__ import annotations

from pathlib import Path

from graphc.frontends.onnx_export import to_onnx
from graphc.frontends.yaml_load import load_yaml

HERE = Path(__file__).parent


def main() -> None:
    (HERE / "digits.onnx").write_bytes(to_onnx(load_yaml(HERE / "digits.yaml")).SerializeToString())


if __name__ == "__main__":
    main()
