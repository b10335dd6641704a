"""The table of a convolution's taps."""

from __future__ import annotations

from graphc.backends.cuda.codegen.device import store, word
from graphc.backends.cuda.codegen.threads import thread_number
from graphc.backends.cuda.conv.conv_block import ENTRY
from graphc.backends.cuda.conv.taps_block import WRITE_TABLE, WriteTable
from graphc.backends.cuda.kernel import THREADS, Code, makes
from graphc.backends.cuda.lower.sizes import NOWHERE


@makes(WriteTable)
def write_table() -> Code:
    ROWS, COUNT, Y, CHANNEL, X_D, X_H, X_W = WRITE_TABLE["rows count y channel x_d x_h x_w"]
    K_D, K_H, K_W, FIRST_D, FIRST_H, FIRST_W = WRITE_TABLE["k_d k_h k_w first_d first_h first_w"]
    STEP_D, STEP_H, STEP_W = WRITE_TABLE["step_d step_h step_w"]
    put = store("int64")

    def write_table(a):
        i = thread_number(THREADS)
        if i < word(a, ROWS):
            there, plane, depth = 0, NOWHERE, 0
            if i < word(a, COUNT):
                line = i // word(a, K_W)
                w = word(a, FIRST_W) + (i - line * word(a, K_W)) * word(a, STEP_W)
                level = line // word(a, K_H)
                h = word(a, FIRST_H) + (line - level * word(a, K_H)) * word(a, STEP_H)
                channel = level // word(a, K_D)
                depth = word(a, FIRST_D) + (level - channel * word(a, K_D)) * word(a, STEP_D)
                there = channel * word(a, CHANNEL) + depth * word(a, X_D) + h * word(a, X_H) + w * word(a, X_W)
                plane = (h << 32) + w
            y = word(a, Y) + 8 * ENTRY * i
            put(y, there)
            put(y + 8, plane)
            put(y + 16, depth)

    return Code(write_table)
