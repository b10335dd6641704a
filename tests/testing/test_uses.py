"""Uses of operators: valid, checked, and small where they show a fault."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from own_ops import EXAMPLE, forgotten

from graphc import own
from graphc.cli import main
from graphc.op import Samples, all_ops
from graphc.testing import Use, check, each_operator, uses
from graphc.testing.checking import first_difference
from graphc.testing.operators import operators

FAULTY = """
import numpy as np
from graphc import expr as e
from graphc.op import Attr, Case, Op, Samples, Tensor, register
from graphc.ops.elementwise import elementwise

def steep(x):
    return e.where(x > 2.5, x + 1, x)

elementwise("faulty::Steep", "x", steep, lambda x: x)

def doubled(b, call):
    y = b.add("Softmax", call.inputs[0], axis=call.attrs.axis)
    return b.add("Mul", y, b.constant(2.0, "float32")) if call.attrs.axis == 1 and call.shape(0)[1] > 2 else y

def softmax(x, axis, spare):
    y = np.exp(x - x.max(axis, keepdims=True))
    return y / y.sum(axis, keepdims=True)

register(Op("faulty::Doubled", ("x",), lambda c: [c.type(0)], reference=softmax, expand=doubled,
    attrs={"axis": Attr(int, -1), "spare": Attr(int, 0, settled=True)},
    samples=Samples(("float32",), cases=(Case((Tensor((3, 4, 5)),), {"axis": 1, "spare": 3}), Case((Tensor((3, 4)),))))))

register(Op("faulty::Whole", ("x",), lambda c: [c.type(0)], reference=lambda x: x.astype(np.int32),
    samples=Samples(cases=(Case((Tensor((3, 4)),)),))))

register(Op("faulty::Silent", ("x",), lambda c: [c.type(0)], reference=lambda x: x))
"""
NAMES = ("Softmax", "TopK", "Conv", "Gather", "LayerNormalization", "Where", "QuantizeLinear", "LSTM")
quick = settings(deadline=None, database=None, max_examples=20, suppress_health_check=[*HealthCheck])


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "faulty_ops.py"
    path.write_text(FAULTY)
    with forgotten():
        own.load_file(path)
        yield path


def smallest(name: str, folder: Path) -> tuple[Use, str]:
    """The use that Hypothesis shows in the end, and what is said of it."""
    seen = []

    @settings(
        quick, max_examples=200, derandomize=True, phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False
    )
    @given(use=uses(name, small=True))
    def trial(use: Use) -> None:
        try:
            check(use, folder=folder)
        except AssertionError as error:
            seen[:] = [(use, str(error))]
            raise

    with pytest.raises(AssertionError):
        trial()
    return seen[0]


@pytest.mark.parametrize("name", NAMES)
def test_uses_are_valid_and_differ(name: str):
    shapes, values = set(), set()

    @quick
    @given(use=uses(name))
    def trial(use: Use) -> None:
        use.run()
        shapes.add(tuple(None if a is None else a.shape for a in use.arrays))
        values.update(a.tobytes() for a in use.arrays if a is not None)

    trial()
    assert len(shapes) > 2 and len(values) > 8


def test_drawn_elements_hold_ties_ends_and_special_values():
    found = set()

    @settings(quick, max_examples=600, derandomize=True)
    @given(use=uses("Relu", dtypes=["float32"]))
    def trial(use: Use) -> None:
        found.update(map(str, use.arrays[0].ravel().tolist()))

    trial()
    special = {str(x) for x in all_ops()["Relu"].samples.special}
    assert special and special | {"0.0", "4.0", "-4.0", "0.5"} <= found


def test_a_fault_of_some_elements_is_shown_by_one_of_them(faulty: Path, tmp_path: Path):
    use, said = smallest("faulty::Steep", tmp_path)
    (x,) = use.arrays
    assert x.size == 1 and 2.5 < x.flat[0] <= 4
    lines = said.splitlines()
    assert lines[0] == "faulty::Steep on cpu is not its reference"
    assert f"is {x.flat[0] + 1}, and not {x.flat[0]}; 1 of 1 differ" in said
    assert lines[-1] == f"  again: python {tmp_path / 'faulty.Steep-cpu.py'}"


def test_a_fault_of_an_attribute_and_a_size_is_shown_by_these_alone(faulty: Path, tmp_path: Path):
    use, said = smallest("faulty::Doubled", tmp_path)
    assert dict(use.attrs) == {"axis": 1}  # the other one is gone
    assert use.arrays[0].shape == (1, 3, 1)
    assert not use.arrays[0].any()
    assert "its expansion, node by node in NumPy, is wrong, too" in said


def test_the_program_does_it_again(faulty: Path, tmp_path: Path):
    use = Use.of("faulty::Steep", [np.array([0.1, np.nan, -np.inf, 3.25], "float32")])
    with pytest.raises(AssertionError) as error:
        check(use, ("reference", "cpu"), folder=tmp_path / "new")
    (program,) = (tmp_path / "new").iterdir()
    done = subprocess.run([sys.executable, program], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 1
    assert str(error.value).splitlines()[:4] == done.stderr.split("AssertionError: ")[1].splitlines()[:4]
    assert "element [3] is 4.25, and not 3.25; 1 of 4 differ" in done.stderr


def test_no_program_is_written_without_a_folder(faulty: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    before = {*tmp_path.iterdir()}
    with pytest.raises(AssertionError):
        check(Use.of("faulty::Steep", [np.float32(3)]), folder=None)
    assert {*tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("got", "want", "tolerance", "said"),
    [
        ([1, 2, 4], [1, 2, 3], 1, "element [2] is 4, and not 3; 1 of 3 differ"),
        ([1.0, 2.0], [1.0, 2.1], 0.1, None),
        ([1.0, 2.0], [1.5, 2.1], 0.1, "element [0] is 1.0, and not 1.5; 1 of 2 differ; 0.1 of 2.1 is allowed"),
        ([np.nan, np.inf], [np.nan, np.inf], 0, None),
        ([np.nan, 1.0], [1.0, 1.0], 1, "element [0] is nan, and not 1.0; 1 of 2 differ; 1 of 1 is allowed"),
        ([1.0, 1.0], [np.nan, 1.0], 1, "element [0] is 1.0, and not nan; 1 of 2 differ; 1 of 1 is allowed"),
        ([np.inf], [-np.inf], 1, "element [0] is inf, and not -inf; 1 of 1 differ; 1 of 1e-300 is allowed"),
        ([], [], 0, None),
    ],
)
def test_the_first_element_that_differs(got: list, want: list, tolerance: float, said: str | None):
    assert first_difference(np.array(got), np.array(want), tolerance) == said


# --- one test for each operator ------------------------------------------------------------------------------------------
def test_a_test_runs_for_each_operator_of_a_domain():
    assert each_operator("").args[1] == operators("")
    assert {"Relu", "Softmax"} <= {*operators("")} and not [n for n in operators("") if "::" in n]
    assert {*operators("com.microsoft")} == {
        n
        for n, op in all_ops().items()
        if n.startswith("com.microsoft::") and not op.internal and op.samples != Samples()
    } | {n for n in operators("com.microsoft") if all_ops()[n].elementwise}
    assert each_operator("", where=lambda op: op.name == "Relu").args[1] == ["Relu"]
    with pytest.raises(ValueError, match="no operator of domain 'nobody'"):
        each_operator("nobody")


def test_own_operators_are_among_them():
    with forgotten():
        own.load_file(EXAMPLE)
        assert operators("my.company") == ["my.company::Entropy", "my.company::Median", "my.company::StarReLU"]
        for name in operators("my.company"):
            settings(quick, max_examples=5)(given(use=uses(name))(lambda use: check(use, folder=None) and None))()
    assert operators("my.company") == []


# --- graphc test ---------------------------------------------------------------------------------------------------------
def test_the_command_tests_the_operators_of_a_file():
    with forgotten():
        done = CliRunner().invoke(main, ["test", str(EXAMPLE), "--examples", "8"])
    assert done.exit_code == 0, done.output
    assert done.output.splitlines() == [
        "my.company::Entropy: 8 uses right",
        "my.company::Median: 8 uses right; runs on the host: my.company::Median has no CPU kernel",
        "my.company::StarReLU: 8 uses right",
    ]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Steep", "operand 0: ["),
        ("Doubled", "faulty::Doubled(float32[1, 3, 1], axis=1)"),
        ("Whole", "result 'y0' is int32[3, 4], inferred float32[3, 4]"),
    ],
)
def test_the_command_ends_with_a_program_that_does_it_again(tmp_path: Path, name: str, said: str):
    (tmp_path / "faulty_ops.py").write_text(FAULTY)
    with forgotten():
        asked = ["test", str(tmp_path / "faulty_ops.py"), "-k", name.lower(), "--out", str(tmp_path / "out")]
        done = CliRunner().invoke(main, asked)
    assert done.exit_code == 1
    assert said in done.output
    assert done.output.splitlines()[0] == f"faulty::{name}: FAILED"
    program = tmp_path / "out" / f"faulty.{name}-cpu.py"
    assert done.output.splitlines()[-1] == f"  again: python {program}"
    assert f"'faulty::{name}'" in program.read_text()


def test_mistakes_of_the_command(tmp_path: Path):
    (tmp_path / "empty.py").write_text("x = 1\n")
    (tmp_path / "faulty_ops.py").write_text(FAULTY)
    for asked, code, said in (
        ([str(tmp_path / "empty.py")], 4, "registers no operator"),
        (["-k", "nothing like it"], 4, "no operator has 'nothing like it' in its name"),
        ([str(tmp_path / "faulty_ops.py"), "-k", "silent"], 1, "faulty::Silent has no samples to draw from"),
        (["-k", "Relu", "--target", "gpu"], 2, "'gpu' is not one of"),
    ):
        with forgotten():
            done = CliRunner().invoke(main, ["test", *asked])
        assert done.exit_code == code and said in done.output, done.output
