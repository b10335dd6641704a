"""Records: dataclasses, whose classes are made in a quarter of the time.

`dataclasses.dataclass` compiles up to six methods for every class, which takes a process that runs a small model longer than
the model. Here what has to be fast is compiled at once, and the rest is not. For what reads records (`fields`, `replace`,
`asdict`, type checkers) they are dataclasses.
"""

from __future__ import annotations

import dataclasses
from dataclasses import MISSING, FrozenInstanceError
from typing import TYPE_CHECKING, Any

__all__ = ["record"]

if TYPE_CHECKING:
    from dataclasses import dataclass as record
else:

    def record(cls: type | None = None, /, *, frozen: bool = False, eq: bool = True) -> Any:
        """The decorator, with those of the arguments of `dataclasses.dataclass` that are needed. What a class defines stays."""

        def make(cls: type) -> type:
            own = vars(cls).copy()
            cls.__doc__ = (
                cls.__doc__ or cls.__name__
            )  # else `dataclass` makes one of the signature, by way of a tokenizer
            derived = any(
                map(dataclasses.is_dataclass, cls.__bases__)
            )  # then `dataclass` checks that these are frozen, too
            dataclasses.dataclass(init=False, repr=False, eq=False, frozen=frozen and derived)(cls)
            cls.__dataclass_params__.frozen = frozen  # which a dataclass that derives from this one is checked for
            methods = _compiled(cls, eq, frozen) | {"__repr__": _repr(cls)}
            if eq and not frozen:
                methods["__hash__"] = None
            if frozen:
                methods |= {"__setattr__": _refuse, "__delattr__": _refuse}
            for name, method in methods.items():
                if own.get(name) is None:
                    setattr(cls, name, method)
            return cls

        return make if cls is None else make(cls)


def _compiled(cls: type, eq: bool, frozen: bool) -> dict[str, Any]:
    """`__init__`, which takes the fields in order and calls `__post_init__` in the end, if there is one; `__eq__`, `__hash__`."""
    scope: dict[str, Any] = {"put": object.__setattr__, "MISSING": MISSING}
    fields = dataclasses.fields(cls)
    parameters, lines = ["self"], []
    for f in fields:
        name, default, value = f.name, "", f.name
        if f.default is not MISSING:
            default = f"=default_{name}"
            scope[f"default_{name}"] = f.default
        elif f.default_factory is not MISSING:
            default, value = "=MISSING", f"make_{name}() if {name} is MISSING else {name}"
            scope[f"make_{name}"] = f.default_factory
        parameters.append(name + default)
        lines.append(f" put(self, {name!r}, {value})" if frozen else f" self.{name} = {value}")
    if hasattr(cls, "__post_init__"):
        lines.append(" self.__post_init__()")
    text = [f"def __init__({', '.join(parameters)}):", *(lines or [" pass"])]
    if eq:  # tuples without brackets, around which Python's parser tries out much else
        mine, others = ("".join(f"{x}.{f.name}, " for f in fields if f.compare) or "()" for x in ("self", "other"))
        text += ["def __eq__(self, other):", " if other.__class__ is not self.__class__: return NotImplemented"]
        text += [f" a = {mine}", f" b = {others}", " return a == b"]
        text += ["def __hash__(self):", f" a = {mine}", " return hash(a)"] if frozen else []
    methods: dict[str, Any] = {}
    exec("\n".join(text), scope, methods)
    for method in methods.values():
        method.__qualname__, method.__module__ = f"{cls.__qualname__}.{method.__name__}", cls.__module__
    return methods


def _repr(cls: type) -> Any:
    shown = [f.name for f in dataclasses.fields(cls) if f.repr]

    def __repr__(self: Any) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{n}={getattr(self, n)!r}' for n in shown)})"

    return __repr__


def _refuse(self: object, name: str, value: object = None) -> None:
    raise FrozenInstanceError(f"field '{name}' of a record that stays as it is")
