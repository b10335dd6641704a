"""Records are what `dataclasses.dataclass` makes of the same class, which is the reference here."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import FrozenInstanceError, dataclass, field, fields, replace
from typing import Any

import pytest

from graphc.records import record

NAN = float("nan")  # one: equal to itself inside a tuple only


def point(decorate: Any) -> Any:
    @decorate(frozen=True)
    class Point:
        """A place."""

        x: int
        y: float = NAN
        tags: tuple[str, ...] = ()
        notes: list[int] = field(default_factory=list, repr=False, compare=False)

        def __post_init__(self) -> None:
            object.__setattr__(self, "x", int(self.x))

    return Point


@record(frozen=True)
class Named:
    name: str


@record(frozen=True)
class Numbered(Named):
    number: int = 0


@pytest.mark.parametrize("arguments", [("1",), (2, 0.5), (3, 1.5, ("a",), [4])])
def test_a_record_is_as_a_dataclass(arguments: tuple):
    one, two = point(record), point(dataclass)
    mine, reference = one(*arguments), two(*arguments)
    assert repr(mine) == repr(reference) and hash(mine) == hash(reference)
    assert dataclasses.asdict(mine) == dataclasses.asdict(reference)
    assert [f.name for f in fields(mine)] == [f.name for f in fields(reference)]
    assert mine == one(*arguments) and mine != reference and replace(mine, x=9) != mine
    assert mine.notes is not one(*arguments).notes or len(arguments) == 4
    for change in (lambda: setattr(mine, "x", 2), lambda: delattr(mine, "x")):
        with pytest.raises(FrozenInstanceError):
            change()
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
        one()


def test_what_derives_from_a_record_has_its_fields_first():
    made = Numbered("a", number=3)
    assert repr(made) == "Numbered(name='a', number=3)" and made != Named("a") and {made: 1}[Numbered("a", 3)]
    assert copy.deepcopy(made) == pickle.loads(pickle.dumps(made)) == made


def test_what_a_class_defines_stays():
    @record(eq=False)
    class Counter:
        count: int = 0

        def __repr__(self) -> str:
            return "counted"

    a = Counter()
    a.count += 1
    assert repr(a) == "counted" and a != Counter(1) and {a}
    with pytest.raises(TypeError, match="unhashable"):
        hash(record(type("Open", (), {"__annotations__": {"x": "int"}}))(1))


def test_records_and_dataclasses_derive_from_each_other_as_dataclasses_do():
    @dataclass(frozen=True)
    class Other:
        y: int

    @dataclass(frozen=True)
    class Both(Named, Other): ...  # Python 3.13 wants each of them frozen

    assert Both(1, "a") == Both(y=1, name="a")
    for cls in (Named, Numbered, record(type("Open", (), {}))):
        like = dataclass(frozen=cls.__setattr__ is not object.__setattr__)(type("Like", (), {}))
        assert cls.__dataclass_params__.frozen == like.__dataclass_params__.frozen
    for frozen in (False, True):
        base = record(frozen=not frozen)(type("Base", (), {}))
        with pytest.raises(TypeError, match="cannot inherit"):
            record(frozen=frozen)(type("Derived", (base,), {}))
