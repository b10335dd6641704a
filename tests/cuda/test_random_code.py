"""Machine code of random bits: a round of Philox is one product of 32 bits by 32, and one xor of three."""

from __future__ import annotations

import pytest
from sass import instructions, of_kind

from graphc import expr as e
from graphc.backends.cuda.codegen.cubin import cubin_of
from graphc.backends.cuda.verbs.map_block import MapElements


@pytest.mark.parametrize("arch", [(8, 0), (9, 0)])
def test_a_round_is_a_few_instructions(arch: tuple[int, int]):
    a, b = (e.arg(i, "uint64") for i in range(2))
    cubins = [cubin_of(MapElements(made, ("uint64",) * 3, 1), arch) for made in (e.philox(a, b), a ^ b)]
    bits, plain = (instructions(cubin) for cubin in cubins)
    more = {
        name: of_kind(bits, name).total() - of_kind(plain, name).total()
        for name in (r"IMAD\.WIDE\.U32", r"LOP3.*", r"(LDL|STL).*", r"(UI|I)MAD\.(HI|X).*")
    }
    assert more[r"IMAD\.WIDE\.U32"] == e.PHILOX_ROUNDS
    assert more[r"LOP3.*"] <= e.PHILOX_ROUNDS and not more[r"(LDL|STL).*"] and not more[r"(UI|I)MAD\.(HI|X).*"]
    assert sum((bits - plain).values()) <= 5 * e.PHILOX_ROUNDS and cubins[0].spilled == 0
