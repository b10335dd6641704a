"""What a register tile of MR rows x NV vectors is worth: one model for every loop that multiplies by them.

A step multiplies an element of each row with NV vectors. It loads both, has MR x NV multiply-adds to do, and can't begin the
next one of an accumulator before the last is done. Its cost is counted in multiply-adds that could have been done meanwhile,
so the peak has the cost MR x NV. The constants are fitted to kernels on Zen 5, where nothing else is said.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from graphc.backends.cpu.target import Target

# Multiply-adds in whose time an operand is loaded: a core has as many load ports as units, which are seldom all busy.
LOADED = 1.15
TALL = 8  # rows above which packed rows cost more, see `Loop.tall`


@dataclass(frozen=True)
class Loop:
    """How a loop over register tiles differs from others.

    exposed   multiply-adds per load that nothing hides
    chains    accumulators that hide the waiting for results and operands, over those that the target's units need
    waiting   the power with which it shows that accumulators are fewer: out-of-order execution begins the next tile
    loaded    multiply-adds in whose time an operand is loaded
    vectors   loads per vector and step, or as many as it costs
    tall      the part that each row above TALL costs
    """

    exposed: float = 0.0
    chains: float = 1.75
    waiting: float = 0.5
    loaded: float = LOADED
    vectors: float = 1
    tall: float = 0.0


# Of a convolution's loads, of rows in many cache lines, nothing is hidden; transformed tiles follow each other. Packed rows are
# read in order, but 14x2 takes 1.04 times what 8x2 takes. In attention, the sums are short besides. Depthwise, a tile reads a
# row of pixels and the two beside it, in a window of three. A recurrent layer's loop reads weights as operands of its
# multiply-adds, and has nothing else to begin meanwhile.
CONV = Loop(exposed=10 / 9, loaded=0.0)
CONV_AVX2 = replace(CONV, vectors=2.25)  # fitted on Zen 3, whose level 2 gives a vector of weights a cycle
WINOGRAD = Loop(exposed=0.4)
PRODUCT = Loop(tall=0.01)
ATTENTION = Loop(exposed=10 / 9, tall=0.01)
DEPTHWISE = Loop(chains=0.0, vectors=2)
RECURRENT = Loop(chains=1.0, waiting=1.0, loaded=0.0)


def cost(target: Target, mr: int, nv: int, loop: Loop, far: float = 0.0) -> float:
    """Multiply-adds that could have been done during a step of MR x NV. far: rows to multiply a vector of weights with, until
    the cache that holds the weights has given the next one; 0 where they are near."""
    work, loads = mr * nv, mr + loop.vectors * nv
    chains = min(loop.chains * target.chains, target.registers // 2)  # the other half holds operands
    waits = max(1.0, (chains / work) ** loop.waiting, far / mr)
    return (max(work, loop.loaded * loads) + loop.exposed * loads) * waits / (1 - loop.tall * max(0, mr - TALL))


def efficiency(target: Target, mr: int, nv: int, loop: Loop, far: float = 0.0) -> float:
    """The share of the multiply-adds' peak that a tile reaches. far: as in `cost`."""
    return mr * nv / cost(target, mr, nv, loop, far)
