"""Which convolutions are computed in bfloat16 where a caller permits it: all but those that Winograd's algorithm makes cheaper in
float32."""

from __future__ import annotations

import math

from graphc.backends.cpu.conv.algorithms import candidates, fastest
from graphc.backends.cpu.conv.conv import allowed
from graphc.backends.cpu.conv.window import window_of
from graphc.backends.cpu.lower.policy import DEPTHWISE, DIRECT, Policy
from graphc.backends.cpu.target import Target
from graphc.graph import Node
from graphc.sizes import for_speed

# Times the direct convolution in float32: twice the products, less what else a tile does. Measured on Zen 4.
FASTER = 1.6
# Seconds of a value that goes from bfloat16 to blocks of float32, and of one that comes back: bytes read and written at 30 GB/s
INTO, BACK = 10 / 30e9, 14 / 30e9


def in_bfloat16(node: Node, target: Target, policy: Policy) -> bool:
    return _pays(node, target, allowed(node, policy))


@for_speed
def _pays(node: Node, target: Target, policy: Policy) -> bool:
    w, groups = window_of(node), node.attrs["group"]
    found = candidates(w, groups, target, policy.winograd, policy.uses("strassen"))
    seconds = {c.algorithm: c.seconds for c in found if not c.excluded}
    best = fastest(seconds)
    if best in (DIRECT, DEPTHWISE) or not best.tile:
        return True
    moved = INTO * w.channels * math.prod(w.size) + BACK * w.out_channels * w.pixels
    return seconds[DIRECT] / FASTER <= seconds[best] + moved
