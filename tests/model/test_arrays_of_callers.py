"""Arrays as callers have them: lists, arrays of other packages, buffers for results, and what is said of those that do not fit."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from numpy.typing import NDArray

import graphc
from graphc import Model
from graphc.errors import InputError
from graphc.graph import Builder

F32 = np.float32


class Shared:
    """An array that shares its memory by DLPack alone."""

    def __init__(self, a: np.ndarray, device: tuple[int, int] = (1, 0)) -> None:
        self.a, self.device = a, device

    def __dlpack__(self, **asked: Any) -> Any:
        return self.a.__dlpack__(**asked)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.device


class Described:
    """An array that tells where its memory is."""

    def __init__(self, a: np.ndarray) -> None:
        self.a, self.__array_interface__ = a, a.__array_interface__


def doubled(dtype: Any = F32, shape: tuple = ("n", 3)) -> Model:
    """y = x + x."""
    b = Builder("doubled")
    x = b.input("x", dtype, shape)
    return graphc.compile(b.build({"y": b.add("Add", x, x)}))


@pytest.fixture(scope="module")
def model() -> Model:
    return doubled()


@pytest.fixture(scope="module")
def pair() -> Model:
    """total = a + b, product = a · b."""
    b = Builder("pair")
    x, y = (b.input(name, F32, ("n", 3)) for name in "ab")
    return graphc.compile(b.build({"total": b.add("Add", x, y), "product": b.add("Mul", x, y)}))


def some(*shape: int) -> NDArray[F32]:
    return np.arange(np.prod(shape), dtype=F32).reshape(shape)


# --- in ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("kind", [Shared, Described])
def test_memory_that_is_shared_is_read(model: Model, kind: type):
    x = some(2, 3)
    np.testing.assert_array_equal(model(kind(x)), x + x)
    np.testing.assert_array_equal(model.run({"x": kind(x)})["y"], x + x)


def test_memory_of_a_device_is_refused_by_name(model: Model):
    with pytest.raises(InputError, match="input 'x' can't be made an array: it lies in the memory of a device"):
        model(Shared(some(2, 3), (2, 0)))


def test_whole_numbers_beyond_what_a_float_holds(model: Model):
    np.testing.assert_array_equal(model([[1, 2, 2**24]]), [[2, 4, 2.0**25]])
    with pytest.raises(InputError, match=f"'x' holds {2**24 + 1}, which float32 can't hold exactly\n.*round it"):
        model([[1, 2, 2**24 + 1]])


def test_tensors_of_torch(model: Model):
    torch = pytest.importorskip("torch")
    x = torch.arange(6, dtype=torch.float32).reshape(2, 3)
    np.testing.assert_array_equal(model(x), (x + x).numpy())
    np.testing.assert_array_equal(model(x.T.contiguous().T), (x + x).numpy())
    out = torch.empty(2, 3)
    assert model(x, out=out) is out
    assert torch.equal(out, x + x)
    with pytest.raises(InputError, match="'x' can't be made an array.*require.* grad"):
        model(x.clone().requires_grad_())
    narrow = doubled(ml_dtypes.bfloat16)
    got = narrow(x.to(torch.bfloat16))
    assert got.dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(got.astype(F32), (x + x).numpy())
    out = torch.empty(2, 3, dtype=torch.bfloat16)
    assert narrow.run({"x": x.to(torch.bfloat16)}, out={"y": out})["y"] is out
    assert torch.equal(out.float(), x + x)


# --- out -----------------------------------------------------------------------------------------
def test_a_call_writes_into_the_array_of_its_caller(model: Model, pair: Model):
    x, y, z = some(2, 3), np.empty((2, 3), F32), np.empty((2, 3), F32)
    assert model(x, out=y) is y and model(x=x, out={"y": z}) is z
    np.testing.assert_array_equal(y, x + x)
    np.testing.assert_array_equal(z, x + x)
    both = pair(x, x + 1, out=(y, z))
    assert both[0] is y and both[1] is z
    np.testing.assert_array_equal(y, x + x + 1)
    np.testing.assert_array_equal(z, x * (x + 1))
    total, product = pair(x, x, out=[None, z])
    assert product is z
    np.testing.assert_array_equal(total, x + x)


@pytest.mark.parametrize("kind", [Shared, Described])
def test_results_go_into_memory_that_is_shared(model: Model, kind: type):
    x, y = some(2, 3), np.zeros((2, 3), F32)
    given = kind(y)
    if kind is Shared and not np.from_dlpack(given).flags.writeable:  # NumPy before 2.1
        pytest.skip("this NumPy reads DLPack only")
    assert model(x, out=given) is given
    np.testing.assert_array_equal(y, x + x)


def test_arrays_for_results_that_do_not_fit(model: Model, pair: Model):
    x = some(2, 3)
    wide = np.zeros((2, 6), F32)
    fixed = np.zeros((2, 3), F32)
    fixed.flags.writeable = False
    whole = np.zeros((3, 3), F32)
    for out, said in (
        (np.zeros((2, 3)), r"output 'y' is float64\[2, 3\], the result is float32\[2, 3\]"),
        (np.zeros((3, 2), F32), r"output 'y' is float32\[3, 2\], the result is float32\[2, 3\]"),
        (wide[:, ::2], "must be a writable, C-contiguous"),
        (fixed, "must be a writable, C-contiguous"),
        ({"z": fixed}, "unknown output 'z'"),
        ((whole[:2],), "'out' is 1 arrays in a tuple, for 1 output\n.*out=y"),
        (Shared(fixed, (2, 0)), "output 'y' can't be written to: it lies in the memory of a device"),
        ("y.npy", "must be a writable, C-contiguous"),
    ):
        with pytest.raises(InputError, match=said):
            model(x, out=out)
    with pytest.raises(InputError, match=r"'out' is one array, for 2 outputs\n.*out=\(total, product\)"):
        pair(x, x, out=whole[:2])
    with pytest.raises(InputError, match="output 'y' and input 'x' share memory"):
        model(whole[:2], out=whole[1:])
    with pytest.raises(InputError, match="output 'product' and the one for output 'total' share memory"):
        pair(x, x, out=(whole[:2], whole[1:]))


def test_an_input_may_be_called_out():
    b = Builder("out")
    model = graphc.compile(b.build({"y": b.add("Neg", b.input("out", F32, (2,)))}))
    np.testing.assert_array_equal(model(out=F32([1, 2])), [-1, -2])


# --- what is said of arrays that do not fit -------------------------------------------------------
PICTURES = ("batch", 3, 8, 9)


@pytest.mark.parametrize(
    ("want", "given", "said"),
    [
        (PICTURES, (1, 8, 9, 3), "x.transpose(0, 3, 1, 2)"),
        (("n", 8, 9, 3), (1, 3, 8, 9), "x.transpose(0, 2, 3, 1)"),
        (PICTURES, (3, 8, 9), "x[None]"),
        (PICTURES, (8, 9, 3), "x.transpose(2, 0, 1)[None]"),
        (("n", 1, 8, 9), (8, 9), "x[None, None]"),
        (("n", 1, 8, 9), (5, 8, 9), "x[:, None]"),
        (("n", 8, 9, 1), (5, 8, 9), "x[..., None]"),
        (("n", 4), (4,), "x[None]"),
        (("n", 4), (4, 5), "x.T"),
        (("n", 72), (5, 8, 9), "x.reshape(len(x), -1)"),
        (("n", 8, 9), (5, 1, 8, 9), "x.squeeze(1)"),
        (("n", 3, 2, 8, 9), (1, 2, 8, 9, 3), "x.transpose(0, 4, 1, 2, 3)"),
    ],
)
def test_the_remedy_of_a_shape_makes_it_fit(want: tuple, given: tuple[int, ...], said: str):
    model = doubled(shape=want)
    x = np.ones(given, F32)
    with pytest.raises(InputError) as error:
        model(x)
    assert error.value.hint is not None and error.value.hint.endswith(f": {said}")
    made = eval(said)
    assert model(made).shape == made.shape


def test_a_shape_without_a_remedy():
    for shape in ((1, 8, 10, 3), (1, 4, 8, 9), (8, 9), (2, 3, 8, 9, 5)):
        with pytest.raises(InputError) as error:
            doubled(shape=PICTURES)(np.ones(shape, F32))
        assert "x." not in str(error.value) and "x[" not in str(error.value)


def test_a_picture_of_bytes_gets_both_remedies():
    model = doubled(shape=PICTURES)
    x = np.full((1, 8, 9, 3), 255, np.uint8)
    with pytest.raises(InputError) as error:
        model(x)
    assert error.value.hint == (
        "convert it: x.astype('float32').transpose(0, 3, 1, 2) (put channels first), "
        "and divide by 255 where the model was trained on 0 to 1"
    )
    assert model(x.astype("float32").transpose(0, 3, 1, 2) / 255).shape == (1, 3, 8, 9)


def test_masked_elements_are_refused(model: Model) -> None:
    np.testing.assert_array_equal(model(np.ma.array(np.ones((1, 3), F32))), np.full((1, 3), 2))  # none is
    with pytest.raises(InputError, match=r"'x' has masked elements[^$]*filled"):
        model(np.ma.array(np.ones((1, 3), F32), mask=[[0, 1, 0]]))
