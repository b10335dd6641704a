"""The table of GPUs' figures: data sheets' peaks come out of it."""

from __future__ import annotations

import pytest

from graphc.backends.cuda.codegen.figures import CARDS, card_of
from graphc.backends.cuda.options import ARCHITECTURES, capability

# dense TFLOP/s of data sheets: float16 with sums in float32, TF32, float32
SHEETS = {
    (8, 0): (312, 156, 19.5),
    (8, 6): (149.7, 74.8, 37.4),
    (8, 9): (362, 183, 91.6),
    (9, 0): (989, 494, 67),
    (10, 0): (2250, 1125, 75),
    (12, 0): (504, 252, 126),
}


@pytest.mark.parametrize("arch", CARDS)
def test_peaks_are_those_of_data_sheets(arch):
    card = CARDS[arch]
    found = [card.half / card.mma, card.tf32 / card.mma, card.float32]
    assert found == pytest.approx([x * 1e12 for x in SHEETS[arch]], rel=0.08)  # clocks of boost and of the sheet differ
    assert [card.rate(2, True), card.rate(4, True)] == pytest.approx(found[:2])  # wgmma reaches them


def test_every_architecture_that_is_compiled_for_has_a_card():
    assert all(card_of(capability(f"sm_{n}")) for n in ARCHITECTURES)
    assert str(card_of((8, 0))) == "A100"
    assert str(card_of((8, 7))) == "A40"
    assert str(card_of((9, 0))) == "H100"
    assert str(card_of((10, 3))) == "B200"
    assert card_of((12, 1)) == CARDS[12, 0]


@pytest.mark.parametrize(
    ("threads", "registers", "shared", "blocks"),
    [
        (128, 32, 0, 16),  # threads limit it
        (32, 32, 0, 32),  # blocks
        (256, 64, 0, 4),  # registers
        (128, 40, 0, 12),
        (96, 168, 0, 4),  # 3 warps in each of 4 parts of 16 KiB
        (128, 32, 100 << 10, 2),  # shared memory, of which the system has 1 KiB of a block
    ],
)
def test_occupancy(threads: int, registers: int, shared: int, blocks: int):
    """Blocks as NVIDIA's occupancy calculator has them for sm_90."""
    assert card_of((9, 0)).occupancy(threads, registers, shared) == blocks * threads / 2048
