"""torch.compile(module, backend="graphc"): what is captured gives what PyTorch gives, or is PyTorch's, and a warning says so."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from graphc.errors import GraphcWarning, InputError, UnsupportedError

torch = pytest.importorskip("torch", reason="torch.compile is PyTorch's: pip install '.[torch]'")
pytest.importorskip("onnxscript", reason="PyTorch's exporter to ONNX needs it: pip install '.[torch]'")

from graphc.torch_backend import backend  # noqa: E402  PyTorch is there

pytestmark = pytest.mark.slow  # PyTorch's exporter takes a second or two for each
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    torch.manual_seed(0)
    torch._dynamo.reset()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("error", GraphcWarning)
        yield


def compiled(function: Any, **options: Any) -> Any:
    return torch.compile(function, backend=backend, options=options or None)


def agree(function: Callable[..., Any], *calls: tuple[Any, ...]) -> None:
    """Tolerances: sums of float32 in other orders."""
    ours = compiled(function)
    for args in calls:
        torch.testing.assert_close(ours(*args), function(*args), rtol=1e-4, atol=1e-5)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        n = torch.nn
        self.features = n.Sequential(n.Conv2d(3, 8, 3, padding=1), n.BatchNorm2d(8), n.ReLU(inplace=True), n.Dropout())
        self.classes = n.Linear(8, 5)

    def forward(self, x: Any) -> Any:
        return self.classes(self.features(x).mean((2, 3)))


@pytest.fixture
def net() -> Any:
    return Net().eval()


def test_a_network_with_batches_of_many_sizes(net: Any):
    agree(net, *[(torch.randn(n, 3, s, s),) for n, s in ((2, 8), (3, 8), (5, 8), (1, 8), (5, 16), (4, 12))])


def test_in_inference_mode(net: Any):
    ours = compiled(net)
    with torch.inference_mode():
        x = torch.randn(2, 3, 8, 8)
        torch.testing.assert_close(ours(x), net(x), rtol=1e-4, atol=1e-5)


def test_parameters_that_change_are_seen(net: Any):
    ours, x = compiled(net), torch.randn(2, 3, 8, 8)
    for change in (
        lambda: None,
        lambda: net.classes.weight.mul_(2),
        lambda: net.load_state_dict(Net().state_dict()),
        lambda: net.load_state_dict(Net().state_dict(), assign=True),
        lambda: setattr(net.classes.weight, "data", torch.ones(5, 8)),
        lambda: net.features[1].running_mean.add_(1),
    ):
        change()
        torch.testing.assert_close(ours(x), net(x), rtol=1e-4, atol=1e-5)


def test_layers():
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
        agree(layer, *[(torch.randn(2, n, 32),) for n in (5, 9, 11)])
    finally:
        torch.backends.mha.set_fastpath_enabled(True)
    agree(torch.nn.LSTM(8, 16, batch_first=True).eval(), (torch.randn(2, 5, 8),))


def test_branches_that_data_decides():
    def choose(p: Any, x: Any) -> Any:
        return torch.cond(p.sum() > 0, lambda x: x + 1, lambda x: x * 2, (x,))

    agree(choose, (torch.ones(2), torch.tensor([3.0])), (-torch.ones(2), torch.tensor([3.0])))


def test_graphs_on_both_sides_of_python():
    def halves(x: Any) -> Any:
        y = x * 2
        return y + 1 if y.sum() > 0 else y - 1

    agree(halves, (torch.ones(3),), (-torch.ones(3),))


def test_what_functions_take_and_give():
    def several(x: Any, k: int = 2) -> Any:
        return torch.relu(x) * k, x.shape[0], x.shape[0] * 2, x, None, x.sum(), (x > 0, x.argmax(1))

    ours = compiled(several)
    for n, k in ((3, 2), (5, 2), (5, 3), (7, 4)):
        x = torch.randn(n, 4)
        found, want = ours(x, k), several(x, k)
        assert found[1:3] == want[1:3] and type(found[1]) is int and found[3] is x and found[4] is None
        torch.testing.assert_close([found[0], found[5], *found[6]], [want[0], want[5], *want[6]])


def test_views_of_inputs_stay_views():
    ours, x = compiled(lambda x: (x.view(-1)[2:], x + 1)), torch.zeros(2, 3)
    view, _ = ours(x)
    view.add_(5)
    assert x.tolist() == [[0, 0, 5], [5, 5, 5]]


def test_strides_and_dtypes():
    agree(lambda x: x @ x, (torch.randn(4, 4).t(),))
    agree(lambda x: x @ x, (torch.randn(4, 4, dtype=torch.float64),))
    agree(lambda x: x + x, (torch.randn(4).bfloat16(),))
    agree(lambda x: x + x, (torch.arange(4),))


def test_memory_is_shared_with_arrays():
    from graphc.torch_backend import to_array, to_tensor

    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool):
        t = torch.ones(3, dtype=dtype)
        assert to_tensor(to_array(t)).data_ptr() == t.data_ptr()
        assert to_tensor(to_array(t)).dtype is dtype


# --- what PyTorch runs ----------------------------------------------------------------------------------------------------
def test_gradients_are_pytorchs(net: Any):
    ours, x = compiled(net), torch.randn(2, 3, 8, 8)
    with torch.enable_grad(), pytest.warns(GraphcWarning, match="it needs gradients") as caught:
        for _ in range(2):
            ours(x).sum().backward()
    assert net.classes.weight.grad is not None
    assert len([w for w in caught if w.category is GraphcWarning]) == 1, "it is said once"
    torch.testing.assert_close(ours(x), net(x), rtol=1e-4, atol=1e-5)  # without gradients it is graphc's


def test_training_is_pytorchs():
    n = torch.nn.BatchNorm1d(4)
    with pytest.warns(GraphcWarning, match=r"it writes to .*running_mean"):
        compiled(n)(torch.randn(8, 4))
    assert n.num_batches_tracked == 1 and n.running_mean.abs().sum() > 0
    with pytest.warns(GraphcWarning, match="aten.dropout.default draws random numbers"):
        assert (compiled(torch.nn.Dropout())(torch.ones(99)) == 0).any()


def test_inputs_that_are_written_to():
    def add(x: Any) -> Any:
        x.add_(1)
        return x * 2

    x = torch.zeros(3)
    with pytest.warns(GraphcWarning, match="it writes to L_x_"):
        assert compiled(add)(x).tolist() == [2, 2, 2] and x.tolist() == [1, 1, 1]


def test_numbers_that_change_from_call_to_call(monkeypatch: pytest.MonkeyPatch):
    """Each has a model of its own, up to a limit."""
    monkeypatch.setattr("graphc.torch_backend.MOST_NUMBERS", 1)
    ours, x = compiled(lambda x, k: x * k), torch.ones(2)
    assert [ours(x, k).tolist() for k in (2, 3)] == [[2, 2], [3, 3]]
    with pytest.warns(GraphcWarning, match="numbers that it takes change from call to call"):
        assert ours(x, 4).tolist() == [4, 4]


def test_views_of_other_elements():
    ours, x = compiled(lambda x: (x.view(torch.int32), x + 1)), torch.zeros(3)
    with pytest.warns(GraphcWarning, match="a view of an input, with elements of another type"):
        view, _ = ours(x)
    view.fill_(0x3F800000)
    assert x.tolist() == [1, 1, 1]


def test_complex_numbers_are_pytorchs():
    for function, x in (
        (lambda x: torch.complex(x, x + 1), torch.randn(3)),
        (lambda x: torch.view_as_real(x) * 2, torch.randn(3, dtype=torch.complex64)),
    ):
        with pytest.warns(GraphcWarning, match="is complex"):
            agree(function, (x,))


def test_small_floats():
    agree(lambda x: x.float() * 2, (torch.randn(3, 4).to(torch.float8_e4m3fn),))
    x = torch.randn(3, 4)
    small = compiled(lambda x: (x * 2).to(torch.float8_e5m2))(x)
    assert torch.equal(small.float(), (x * 2).to(torch.float8_e5m2).float())


def test_unsupported_operators_are_named():
    def values(x: Any) -> Any:
        return torch.linalg.eigvals(x).abs()

    with pytest.raises(UnsupportedError, match="operator 'aten.linalg_eig' of PyTorch has no form in ONNX") as caught:
        compiled(values)(torch.eye(3))
    assert "'fallback': True" in str(caught.value)
    torch._dynamo.reset()
    with pytest.warns(GraphcWarning, match="aten.linalg_eig"):
        assert compiled(values, fallback=True)(torch.eye(3)).tolist() == [1, 1, 1]


def test_layers_that_are_one_operator_say_how_not_to_be():
    layer = torch.nn.TransformerEncoderLayer(32, 4, 64, batch_first=True).eval()
    with pytest.raises(UnsupportedError, match="set_fastpath_enabled"):
        compiled(layer)(torch.randn(2, 5, 32))


def test_options():
    found: list[Any] = []

    def spy(gm: Any, examples: Any) -> Any:
        found.append(backend(gm, examples, options={"threads": 1, "disabled": ["fusion"]}))
        return found[-1]

    torch.compile(lambda x: torch.relu(x) @ x, backend=spy)(torch.ones(3, 3))
    ((model, _),) = found[0]._models.values()
    assert model._recipe["threads"] == 1 and model._recipe["disabled"] == ("fusion",)
    with pytest.raises(InputError, match="mode 'max-autotune' is for its backend inductor"):
        backend(None, [], mode="max-autotune")


def test_pytorch_finds_it_by_its_name(tmp_path: Path):
    """By the entry point of pyproject.toml, as of an installed package."""
    group = "[torch_dynamo_backends]\ngraphc = graphc.torch_backend:backend\n"
    section = (ROOT / "pyproject.toml").read_text("utf-8").split("[project.entry-points.torch_dynamo_backends]")[1]
    assert section.splitlines()[1] == 'graphc = "graphc.torch_backend:backend"'
    info = tmp_path / "graphc-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: graphc\nVersion: 0.1.0\n")
    (info / "entry_points.txt").write_text(group)
    program = (
        "import torch\nwith torch.no_grad(): print(torch.compile(lambda x: x + 1, backend='graphc')(torch.ones(2)))\n"
    )
    program += "import sys; print('graphc.torch_backend' in sys.modules)"
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    call = [sys.executable, "-c", program]
    done = subprocess.run(call, env={**os.environ, "PYTHONPATH": path}, cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "tensor([2., 2.])\nTrue\n", done.stderr
