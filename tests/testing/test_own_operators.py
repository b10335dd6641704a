"""Operators of users: found in files, by their entry points, in any domain; and no plan of one that has changed."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import helper
from own_ops import EXAMPLE, forgotten
from scripts import run_script

import graphc
from graphc import expr as e
from graphc import own
from graphc.cli import main
from graphc.code_digest import Unknown, code_digest
from graphc.errors import GraphcError, LoadError, NoDeviceError
from graphc.fingerprint import fingerprint
from graphc.graph import Builder
from graphc.lower.registry import Rule
from graphc.op import Op, Reduction, get_op, register
from graphc.ops.elementwise import elementwise

BENT = """
from helper import twice
from graphc.ops.elementwise import elementwise

elementwise("my.company::Bent", "x", lambda x: twice(x), lambda x: twice(x))
"""


def onnx_file(path: Path, *ops: str, domain: str = "my.company", shape: tuple[int, ...] = (2, 4)) -> Path:
    """A chain of operators of a domain, which no cache knows."""
    names = [f"v{i}" for i in range(len(ops) + 1)]
    nodes = [helper.make_node(op, [a], [b], domain=domain) for op, a, b in zip(ops, names, names[1:])]
    x = helper.make_tensor_value_info(names[0], onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info(names[-1], onnx.TensorProto.FLOAT, None)
    opsets = [helper.make_opsetid("", 21), *([helper.make_opsetid(domain, 3)] if domain else [])]
    onnx.save(
        helper.make_model(helper.make_graph(nodes, uuid4().hex, [x], [y]), opset_imports=opsets, ir_version=10), path
    )
    return path


@pytest.fixture(scope="module", autouse=True)
def loaded() -> Iterator[None]:
    with forgotten():
        own.load_file(EXAMPLE)
        yield


# --- files and packages that bring them ---------------------------------------------------------------------------------
def test_a_file_is_imported_once_and_its_operators_are_own():
    before = len(own.PARTS)
    own.load_file(EXAMPLE)
    own.load_file(os.path.relpath(EXAMPLE))
    assert len(own.PARTS) == before
    names = {getattr(part, "name", None) for part in own.PARTS}
    assert {"my.company::StarReLU", "my.company::Entropy", "my.company::Median"} <= names
    assert not names & {"Relu", "Softmax"}, "graphc's own operators count as a user's"
    assert own.FILES["my.company::Median"] == str(EXAMPLE)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import numpy\nnumpy.nothing\n", r"broken\.py: line 2.*AttributeError"),
        ("x = 1\nif x\n    pass\n", r"broken\.py: line 2.*SyntaxError"),
        ("import nothing_of_that_name\n", r"line 1.*ModuleNotFoundError"),
        (
            "from graphc.ops.elementwise import elementwise\nelementwise('Relu', 'x', abs, abs)\n",
            "Relu is registered twice",
        ),
    ],
)
def test_a_file_that_fails_is_told_with_its_line(tmp_path: Path, text: str, said: str):
    (tmp_path / "broken.py").write_text(text)
    for _ in range(2):  # it counts as imported no time
        with pytest.raises(LoadError) as error:
            own.load_file(tmp_path / "broken.py")
        assert re.search(said, str(error.value).replace("\n", " ")), error.value


@pytest.mark.parametrize("command", ["run", "check", "compile", "compare", "show"])
def test_commands_read_a_model_of_another_domain(tmp_path: Path, command: str):
    model = onnx_file(tmp_path / "m.onnx", "StarReLU", "Entropy")
    done = CliRunner().invoke(main, [command, str(model), "--import", str(EXAMPLE)])
    assert done.exit_code == 0, done.output
    assert "StarReLU" in done.output or command in ("run", "compile", "compare", "check")


def test_a_yaml_file_calls_it_by_its_name(tmp_path: Path):
    net = tmp_path / "net.yaml"
    net.write_text("graphc: 1\ninputs: {x: [2, 4]}\nnet:\n  - my.company::StarReLU: {scale: 2.0, bias: 0.0}\n")
    x = np.array([[1, -1, 2, 0.5]] * 2, np.float32)
    np.testing.assert_allclose(graphc.compile(net)(x), 2 * np.maximum(x, 0) ** 2, rtol=1e-6)


def test_without_the_file_the_operator_is_unknown(tmp_path: Path):
    model = onnx_file(tmp_path / "m.onnx", "Nowhere")
    done = CliRunner().invoke(main, ["check", str(model), "--import", str(EXAMPLE)])
    assert done.exit_code == 3
    assert "operator 'Nowhere' of domain 'my.company' is not supported" in done.output


def test_an_operator_in_the_domain_of_onnx(tmp_path: Path):
    """Its name has no domain."""
    with forgotten():
        elementwise("Cubed", "x", lambda x: x * x * x, lambda x: x**3)
        model = graphc.compile(onnx_file(tmp_path / "m.onnx", "Cubed", domain=""))
        assert (model(np.full((2, 4), 3, np.float32)) == 27).all()


def test_an_installed_package_brings_operators_by_its_entry_point(tmp_path: Path):
    """Found without an import of the package, and gone with it."""
    package, info = tmp_path / "site" / "bent", tmp_path / "site" / "bent-1.0.dist-info"
    package.mkdir(parents=True)
    info.mkdir()
    (package / "__init__.py").write_text("")
    (package / "ops.py").write_text(BENT.replace("helper", "bent.helper"))
    (package / "helper.py").write_text("def twice(x):\n    return x * 2\n")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bent\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[graphc.operators]\nbent = bent.ops\nbroken = bent.nothing\n")
    model = onnx_file(tmp_path / "m.onnx", "Bent")
    code = """
        import sys, warnings
        import numpy as np
        import graphc
        from graphc.errors import GraphcError
        {}
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                print(graphc.compile(sys.argv[1])(np.ones((2, 4), np.float32))[0, 0], *(str(w.message) for w in said))
            except GraphcError as error:
                print(error)
        """
    there = code.format(f"sys.path.append({str(package.parent)!r})")
    for _ in range(2):  # the second finds the plan
        out = run_script(there, model)
        assert out.startswith("2.0") and "installed package 'broken' are missing: bent.nothing: ModuleNotFound" in out
    assert "operator 'Bent' of domain 'my.company' is not supported" in run_script(code.format(""), model)


# --- plans on disk ------------------------------------------------------------------------------------------------------
def result_of(folder: Path, model: Path) -> tuple[float, bool]:
    """Element 0 of a result where the input is 1, and whether the plan was found on disk."""
    code = """
        import sys
        import numpy as np
        import graphc
        from graphc.own import load_file

        load_file(sys.argv[1])
        model = graphc.compile(sys.argv[2], threads=1)
        found = "graphc.frontends.onnx_load" not in sys.modules
        print(float(model(np.ones((2, 4), np.float32)).flat[0]), found)
        """
    value, found = run_script(code, folder / "ops.py", model).split()
    return float(value), found == "True"


def test_a_changed_operator_finds_no_old_plan(tmp_path: Path):
    """Nor does one whose helper, in another file, reads another number."""
    model, read = onnx_file(tmp_path / "m.onnx", "Bent"), tmp_path / "helper.py"
    (tmp_path / "ops.py").write_text(BENT)
    read.write_text("FACTOR = 2\ndef twice(x):\n    return x * FACTOR\n")
    assert result_of(tmp_path, model) == (2, False)
    assert result_of(tmp_path, model) == (2, True)
    read.write_text("FACTOR = 3.5\ndef twice(x):\n    return x * FACTOR\n")
    assert result_of(tmp_path, model) == (3.5, False)


def digest_of_source(text: str, name: str = "f") -> str:
    scope: dict = {"__name__": "somebody"}
    exec(text, scope)
    return code_digest(scope[name])


SAME = "def f(x):\n    return x + 1\n"
OTHERS = [
    "def f(x):\n    return x + 2\n",
    "def f(x):\n    return x - 1\n",
    "def f(x, y=1):\n    return x + 1\n",
    "def f(x, y=2):\n    return x + 1\n",
    "def g(x): return x + 1\ndef f(x):\n    return g(x)\n",
    "def g(x): return x + 2\ndef f(x):\n    return g(x)\n",
    "k = {'a': [1]}\ndef f(x):\n    return x + k['a'][0]\n",
    "k = {'a': [2]}\ndef f(x):\n    return x + k['a'][0]\n",
    "import numpy as np\nk = np.zeros(3)\ndef f(x):\n    return x + k\n",
    "import numpy as np\nk = np.array([0, 0, 1.0])\ndef f(x):\n    return x + k\n",
    "def outer(k):\n    return lambda x: x + k\nf = outer(1)\n",
    "def outer(k):\n    return lambda x: x + k\nf = outer(2)\n",
    "class C:\n    def m(self, x): return x + 1\ndef f(x):\n    return C().m(x)\n",
    "class C:\n    def m(self, x): return x + 2\ndef f(x):\n    return C().m(x)\n",
    "class C:\n    k = 1\nc = C()\nc.k = 2\nf = c\n",
    "class C:\n    k = 1\nc = C()\nc.k = 3\nf = c\n",
    "from functools import partial\nf = partial(max, 1)\n",
    "from functools import partial\nf = partial(max, 2)\n",
    "f = 1\n",
    "f = True\n",
    "f = 0.0\n",
    "f = -0.0\n",
    "f = (1, (2, 3))\n",
    "f = ((1, 2), 3)\n",
    "def f(x):\n    return f(x - 1) if x else 0\n",
]  # fmt: skip


def test_digests_of_code_tell_what_does_something_else():
    digests = [digest_of_source(text) for text in (SAME, *OTHERS)]
    assert len({*digests}) == len(digests)
    assert digests == [digest_of_source(text) for text in (SAME, *OTHERS)]


def test_what_nobody_can_look_into_has_no_digest():
    with pytest.raises(Unknown):
        digest_of_source("state = iter([1, 2])\ndef f(x):\n    return x + next(state)\n")


def test_plans_of_what_has_no_digest_are_not_kept(tmp_path: Path):
    model = onnx_file(tmp_path / "m.onnx", "StarReLU")
    assert fingerprint() is not None
    with forgotten():
        own.PARTS.append(iter([1]))
        assert fingerprint() is None
        compiled = graphc.compile(model)
        assert compiled(np.zeros((2, 4), np.float32)).flat[0] == np.float32(-0.4472)


# --- kernels ------------------------------------------------------------------------------------------------------------
def test_a_reduction_has_a_kernel_however_late_it_is_registered():
    def model(name: str) -> graphc.Model:
        b = Builder()
        x = b.input("x", "float32", (3, 5))
        return graphc.compile(b.build({"y": b.add(name, x, b.constant([1], "int64"))}))

    def length(x: np.ndarray, axes: np.ndarray, keepdims: bool, noop_with_empty_axes: bool) -> np.ndarray:
        return np.sqrt(np.square(x).sum(tuple(axes), keepdims=bool(keepdims)))

    model("ReduceSum")  # which loads all lowerings
    like, x = get_op("ReduceSum"), np.random.default_rng(0).normal(size=(3, 5)).astype(np.float32)
    root = Reduction("add", map=lambda x: x * x, finish=lambda total, n: e.sqrt(total))
    with forgotten():
        name = "my.company::Length"
        register(Op(name, like.inputs, like.infer, length, like.attrs, values=like.values, reduction=root))
        found = model(name)
        np.testing.assert_allclose(found(x), np.linalg.norm(x, axis=1, keepdims=True), rtol=1e-6)  # sums of five
        assert not [s for s in found.plan().steps if s.host]


def test_own_operators_are_compiled_and_fused_as_others_are():
    b = Builder("own")
    x = b.input("x", "float32", (8, 16))
    y = b.add("my.company::StarReLU", b.add("MatMul", x, b.constant(np.eye(16), "float32")))
    graph = b.build({"y": y, "unsure": b.add("my.company::Entropy", y), "middle": b.add("my.company::Median", y)})
    steps = graphc.compile(graph).plan().steps
    assert [s.ops for s in steps if s.host] == [("my.company::Median",)]
    assert any(s.ops == ("MatMul", "my.company::StarReLU") for s in steps), [s.ops for s in steps]


MISTAKES = {
    "scalar": "scalar=lambda x: e.nothing(x)",
    "expand": "expand=lambda b, call: call.nothing",
    "reference": "",
    "infer": "infer=lambda call: call.nothing, scalar=lambda x: x",
}


@pytest.mark.parametrize("part", MISTAKES)
def test_a_mistake_in_an_operator_is_told_with_its_file_and_line(part: str, tmp_path: Path):
    path, name = tmp_path / "mistaken.py", f"my.company::Mistaken{part}"
    reference = "lambda x: np.nothing(x)" if part == "reference" else "lambda x: x"
    infer = "" if part == "infer" else "infer=lambda call: [call.type(0)],"
    path.write_text(
        "import numpy as np\nfrom graphc import expr as e\nfrom graphc.op import Op, register\n\n"
        f"register(\n    Op(\n        '{name}', ('x',), reference={reference}, {infer}\n        {MISTAKES[part]}\n    )\n)\n"
    )
    model = onnx_file(tmp_path / "m.onnx", f"Mistaken{part}")
    with forgotten():
        own.load_file(path)
        with pytest.raises(GraphcError, match=f"its `{part}` fails: AttributeError: .*nothing") as error:
            graphc.compile(model)(np.ones((2, 4), np.float32))
        line = 7 if part == "reference" else 8
        assert f"mistaken.py: line {line}" in str(error.value) and "graphc test mistaken.py" in str(error.value)


IN_A_FILE = """
import numpy as np
from graphc.lower.registry import lowers
from graphc.op import Case, Op, Samples, Tensor, register

def same(call):
    return [call.type(0)]

def fails(*operands):
    raise ZeroDivisionError("mine")

def adds(x):
    x += 1
    return x

name, samples = "my.company::Wrong{number}", Samples(cases=(Case((Tensor((2, 4)),)),))
{lines}
"""
WRONG = {
    "infer={infer}, scalar=lambda x: x": [
        ("lambda c: [c.type(0).with_shape((2000, 4))]", "the shape to which float32[2, 4] broadcast, not float32[2000, 4]"),
        ("lambda c: [c.type(0).with_shape((2,))]", "the shape to which float32[2, 4] broadcast, not float32[2]"),
        ("lambda c: ['float32']", "its `infer` fails: TypeError: it gives 'float32', which is no TensorType"),
    ],
    "infer=same, scalar={scalar}": [
        ("lambda x: None", "its `scalar` fails: TypeError: it gives None, which is no expression"),
        ("lambda x: 'x'", "its `scalar` fails: TypeError: it gives 'x', which is no expression"),
    ],
    "infer=same, expand={expand}": [
        ("lambda b, c: b.add('Transpose', c.inputs[0], perm=[1, 0])", "it gives float32[4, 2], and `infer` float32[2, 4]"),
        ("lambda b, c: b.add('Cast', c.inputs[0], to=np.dtype('float64'))", "it gives float64[2, 4], and `infer` float32[2, 4]"),
        ("lambda b, c: (b.add('Neg', c.inputs[0]), 'x')[1]", "its `expand` fails: TypeError: it gives 'x', which is no value"),
        ("lambda b, c: b.add(name, c.inputs[0])", "its expansion does not end"),
        ("lambda b, c: b.add('Nope', c.inputs[0])", "unknown operator 'Nope'"),
    ],
    "infer=same, reference={reference}": [
        ("adds", "its `reference` fails: ValueError: output array is read-only"),
        ("lambda x: None", "its `reference` fails: TypeError: it gives None"),
        ("lambda x: x.astype('float64')", "its `infer` and its `reference` disagree: result 'v1' is float64[2, 4]"),
        ("lambda x: exit(0)", "its `reference` fails: SystemExit: 0"),
    ],
    "infer=same)); (lowers(name, supported={supported})(fails": [("fails", "its `supported` fails: ZeroDivisionError: mine")],
    "infer=same)); (lowers(name)({lowering}": [("fails", "its `lowers` fails: ZeroDivisionError: mine")],
}  # fmt: skip
WRONGS = [(form, *case) for form, cases in WRONG.items() for case in cases]


@pytest.mark.parametrize(("form", "part", "said"), WRONGS, ids=[said[:40] for *_, said in WRONGS])
def test_what_an_operator_gives_is_held_against_its_record(form: str, part: str, said: str, tmp_path: Path):
    """Nothing is computed from what it is not, and no answer is a bug of graphc's."""
    number, path = WRONGS.index((form, part, said)), tmp_path / "wrong.py"
    fields = form.format(**dict.fromkeys(("infer", "scalar", "expand", "reference", "supported", "lowering"), part))
    other = "" if "reference=" in fields else "reference=lambda x: x, "
    path.write_text(
        IN_A_FILE.format(number=number, lines=f"register(Op(name, ('x',), samples=samples, {other}{fields}))")
    )
    model, x = onnx_file(tmp_path / "m.onnx", f"Wrong{number}"), np.ones((2, 4), np.float32)
    with forgotten():
        own.load_file(path)
        with pytest.raises(GraphcError) as error:
            graphc.compile(model)(x)
        assert said in str(error.value) and "wrong.py" in str(error.value), error.value
        assert (x == 1).all()


def test_a_fault_of_a_rule_of_graphcs_is_no_mistake_of_a_users(tmp_path: Path):
    path = tmp_path / "right.py"
    lines = "register(Op(name, ('x',), samples=samples, infer=same, reference=lambda x: x)); lowers(name)(fails)"
    path.write_text(IN_A_FILE.format(number="None", lines=lines))
    with forgotten():
        own.load_file(path)
        own.PARTS[:] = [part for part in own.PARTS if not isinstance(part, Rule)]  # as if it were ours
        with pytest.raises(ZeroDivisionError):
            graphc.compile(onnx_file(tmp_path / "m.onnx", "WrongNone"))(np.ones((2, 4), np.float32))


def test_a_file_that_ends_the_program(tmp_path: Path):
    path = tmp_path / "program.py"
    path.write_text("import sys\n\nsys.exit(0)\n")
    with pytest.raises(LoadError, match="program.py: line 3: SystemExit: 0"):
        own.load_file(path)
    done = CliRunner().invoke(main, ["test", str(path)])
    assert done.exit_code == 3 and "__main__" in done.output
    with pytest.raises(LoadError, match="does not exist"):
        own.load_file(tmp_path / "none.py")


def test_a_target_that_this_machine_lacks_is_no_failure_of_an_operator(monkeypatch: pytest.MonkeyPatch):
    def lacks(*args, **kwargs):
        raise NoDeviceError("there is no NVIDIA driver")

    monkeypatch.setattr(graphc, "compile", lacks)
    done = CliRunner().invoke(main, ["test", "-k", "Neg", "--examples", "1", "--target", "cuda"])
    assert done.exit_code == 5 and "FAILED" not in done.output, done.output


def test_abs_of_an_operand():
    with forgotten():
        elementwise("my.company::Softer", "x", lambda x: x / (abs(x) + 1), lambda x: x / (np.abs(x) + 1))
        b = Builder()
        x = b.input("x", np.float32, (5,))
        values = np.linspace(-3, 3, 5, dtype=np.float32)
        found = graphc.compile(b.build({"y": b.add("my.company::Softer", x)}))(values)
        np.testing.assert_allclose(found, values / (np.abs(values) + 1), rtol=1e-6)
