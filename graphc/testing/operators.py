"""Tests that run once for each operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphc import own
from graphc.op import Op, all_ops
from graphc.testing.uses import cases

if TYPE_CHECKING:
    import pytest


def operators(domain: str | None = None, where: Callable[[Op], bool] = lambda op: True) -> list[str]:
    """Names of the operators of a domain ('' is ONNX's, None: of any) that have samples, and of which `where` holds."""
    return [
        name
        for name, op in all_ops().items()
        if (domain is None or name.rpartition("::")[0] == domain) and not op.internal and where(op) and cases(op)
    ]


def own_operators(names: Sequence[str] | None = None) -> list[str]:
    """Names of those that code outside of graphc has registered."""
    return sorted(part.name for part in own.PARTS if isinstance(part, Op) and (names is None or part.name in names))


def each_operator(domain: str | None = None, *, where: Callable[[Op], bool] = lambda op: True) -> pytest.MarkDecorator:
    """Run a test with `operator`, a name, once for each operator of a domain ('' is ONNX's, None: of any) that has samples:

        @each_operator(domain="my.company")
        @given(data=st.data())
        def test_right(operator, data):
            check(data.draw(uses(operator)))

    where: of which operators. Those of users count as soon as the file that registers them is imported. Raises ValueError where
    there is none, since a test of nothing would pass.
    """
    import pytest

    names = operators(domain, where)
    if not names:
        raise ValueError(f"there is no operator{'' if domain is None else f' of domain {domain!r}'} to test")
    return pytest.mark.parametrize("operator", names)
