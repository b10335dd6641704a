"""The cases of ONNX's backend suite: how they are read, run by the reference backend, and compared; and the list of what passes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from graphc import frontends
from graphc.backends.reference import run
from graphc.errors import GraphcError

LIST = Path(__file__).with_name("passing.txt")
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
RANDOM = "bernoulli"  # the expected values are one draw of a random operator
_PROTOS = {
    "tensor_type": onnx.TensorProto,
    "sequence_type": onnx.SequenceProto,
    "optional_type": onnx.OptionalProto,
    "map_type": onnx.MapProto,
}
Case = tuple[str, onnx.ModelProto, list, float, float]


def cases() -> Iterator[Case]:
    """(kind/name, model, [(inputs, outputs)], rtol, atol) of every case of the installed onnx package."""
    from onnx.backend.test.case.node import collect_testcases
    from onnx.backend.test.loader import load_model_tests

    for case in collect_testcases(None):
        if case.model is not None and RANDOM not in case.name:
            yield f"node/{case.name}", case.model, case.data_sets, case.rtol, case.atol
    for kind in KINDS[1:]:
        for case in load_model_tests(kind=kind):
            if case.model is not None:
                yield f"{kind}/{case.name}", case.model, case.data_sets, case.rtol, case.atol
            elif case.model_dir:
                folder = Path(case.model_dir)
                model = onnx.load(folder / "model.onnx")
                sets = [_read_set(model, d) for d in sorted(folder.glob("test_data_set_*"))]
                yield f"{kind}/{case.name}", model, sets, case.rtol, case.atol


def _read_set(model: onnx.ModelProto, folder: Path) -> tuple[list, list]:
    def read(prefix: str, infos: Sequence[onnx.ValueInfoProto]) -> list:
        files = [(folder / f"{prefix}_{i}.pb", info.type.WhichOneof("value")) for i, info in enumerate(infos)]
        return [_PROTOS[kind].FromString(f.read_bytes()) for f, kind in files if f.exists()]

    return read("input", model.graph.input), read("output", model.graph.output)


def failure(case: Case) -> str | None:
    """Why the case fails; None if it passes."""
    _, model, sets, rtol, atol = case
    try:
        graph = frontends.load(model)
        for inputs, expected in sets:
            feeds = dict(zip((i.name for i in model.graph.input), map(as_object, inputs)))
            results = run(graph, {v.name: feeds[v.name] for v in graph.inputs})
            for want, name in zip(map(as_object, expected), graph.output_names):
                compare(want, results[name], rtol, atol)
    except (GraphcError, AssertionError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).strip()}"
    return None


def as_object(x: Any) -> Any:
    """What a case gives or expects: an array, a list for a sequence, None for an empty optional."""
    readers = {
        onnx.TensorProto: numpy_helper.to_array,
        onnx.SequenceProto: numpy_helper.to_list,
        onnx.OptionalProto: numpy_helper.to_optional,
        onnx.MapProto: numpy_helper.to_dict,
    }
    return readers[type(x)](x) if type(x) in readers else x


def compare(want: Any, got: Any, rtol: float, atol: float) -> None:
    if want is None or isinstance(want, (list, tuple)):
        assert (got is None) == (want is None) and isinstance(got, (list, type(None))), f"{type(got)}, not {type(want)}"
        assert want is None or len(got) == len(want), f"{len(got)} elements, not {len(want)}"
        for a, b in zip(want or (), got or ()):
            compare(a, b, rtol, atol)
        return
    want = np.asarray(want)
    assert got.shape == want.shape, f"shape {got.shape}, not {want.shape}"
    if want.dtype.kind in "OUS":
        assert got.astype(str).tolist() == want.astype(str).tolist()
        return
    assert got.dtype == want.dtype, f"dtype {got.dtype}, not {want.dtype}"
    if want.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
    elif want.dtype.kind in "fc":
        np.testing.assert_allclose(got, want, rtol=rtol, atol=atol)
    else:  # bfloat16, float8, int4: in their own steps
        np.testing.assert_allclose(got.astype(np.float32), want.astype(np.float32), rtol=max(rtol, 1e-2), atol=1e-3)


def listed() -> tuple[str, set[str]]:
    """The onnx version that the list was written with, and the names of the cases that pass."""
    lines = LIST.read_text().splitlines()
    return lines[0].removeprefix("# onnx "), {line for line in lines if line and not line.startswith("#")}


def write_list(passing: Iterable[str]) -> None:
    LIST.write_text("\n".join([f"# onnx {onnx.__version__}", *sorted(passing)]) + "\n")
