"""verbs/blend_driver.py.

x_bytes: from one outer index to the next. offsets, weights: [out, taps] byte offsets of rows and float64 weights.
"""

from __future__ import annotations

from graphc.backends.cpu.block import Block

BLEND_AXIS = Block("x y outer x_bytes out inner row_bytes taps offsets weights micro scratch scratch_stride")
