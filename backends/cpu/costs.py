"""What one thread takes, in seconds: the one table behind the choice of algorithms and of how Winograd's products are cut.

Measured and fitted on an AMD EPYC with Zen 5 cores (1 MB of level 2 each, 3.9 GHz). Other machines differ less in the
proportions than in the scale, on which no choice depends. How to fit it anew: docs/how-it-works.md.
"""

from __future__ import annotations

from graphc.backends.cpu.target import Target
from graphc.report import StepInfo

FLOPS_PER_NS, BYTES_PER_NS = 100, 20  # of one core that others disturb now and then
# algorithms of a step that runs a program: other threads can't help, or they share its steps, for as many runs as data says
ALONE, TEAM = "one thread", "shared steps"
MANY = 30_000  # nanoseconds that these take at least

# A byte of weights that no cache holds, of weights in level 3, and of weights in level 2; a byte of a group of tiles that is
# read again, for other output channels; a value that Winograd's transforms make.
FROM_MEMORY = 1 / 20e9
FROM_L3 = 1 / 53.5e9
FROM_L2 = 1 / 229e9
AGAIN = 1 / 152.5e9
TRANSFORM = 1.638e-10

# Of whole layers: for each algorithm the seconds per unit of its quantities, in the order of the functions in
# conv/algorithms.py, multiply-adds of vectors first. By `python benchmarks/algorithms.py --fit`.
LAYERS: dict[str, dict[str, tuple[float, ...]]] = {
    "avx512": {
        "direct": (9.5328e-11, 0, 1.45e-11, 1.75e-06),
        "depthwise": (1.792e-10, 2.38e-11, 0),
        "strassen": (9.8496e-11, 0, 4.87e-11, 2.82e-11, 0),
        "winograd F(2x2)": (1.464e-10, 0, 8.256e-12, 0.24, 9.91e-13, 1.08e-10, 1.31e-10, 1.38e-10, 3.03e-06),
        "winograd F(4x4)": (1.3696e-10, 7.536e-11, 0, 0.374, 4.86e-12, 2.51e-10, 1.42e-10, 1.83e-10, 1.51e-06),
        "winograd F(6x6)": (1.1696e-10, 1.728e-10, 0, 0.395, 5.18e-12, 2.87e-10, 0, 1.95e-10, 0),
    },
    "avx2": {
        "direct": (8.568e-11, 0, 1.7e-11, 1.82e-06),
        "depthwise": (2.304e-10, 2.71e-11, 0),
        "strassen": (9e-11, 0, 4.81e-11, 0, 0),
        "winograd F(2x2)": (4.712e-11, 2.256e-10, 1.288e-10, 0.131, 7.84e-13, 1.69e-10, 1.21e-10, 1.37e-10, 4.27e-06),
        "winograd F(4x4)": (1.88e-11, 2.424e-10, 1.968e-10, 0.17, 0, 2.45e-10, 2.38e-10, 1.7e-10, 3.54e-06),
        "winograd F(6x6)": (5.824e-11, 1.856e-10, 1.28e-10, 0.256, 2.13e-12, 2.75e-10, 2.21e-10, 1.95e-10, 2.81e-06),
    },
    "portable": {
        "direct": (2.7144e-10, 0, 5.38e-11, 1.81e-06),
        "depthwise": (4.448e-10, 5.62e-11, 0),
        "strassen": (2.6928e-10, 0, 6.91e-11, 2.52e-10, 0),
        "winograd F(2x2)": (4.32e-10, 2.064e-10, 1.632e-11, 0.67, 0, 1.01e-10, 6.71e-11, 3.01e-10, 5.17e-06),
        "winograd F(4x4)": (4.224e-10, 3.384e-10, 0, 0, 0, 1.45e-10, 4.85e-10, 4.29e-10, 3.12e-06),
        "winograd F(6x6)": (4.144e-10, 3.456e-10, 0, 0, 0, 1.56e-10, 5.15e-10, 5.72e-10, 2.07e-06),
    },
}


def multiply(target: Target) -> float:
    """Of a vector multiply-add, in a register tile that wastes nothing."""
    return LAYERS[target.isa]["direct"][0]


def nanoseconds(info: StepInfo) -> int:
    """What a step takes on one thread, roughly: it decides whether others should help. 0 where they can't."""
    if info.algorithm == ALONE:
        return 0
    return info.flops // FLOPS_PER_NS + info.nbytes // BYTES_PER_NS + (MANY if info.algorithm == TEAM else 0)
