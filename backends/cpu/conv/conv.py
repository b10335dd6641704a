"""Conv: the algorithm of each layer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from graphc.backends.cpu.conv import algorithms, dense_window
from graphc.backends.cpu.conv.conv_planes import FEW, emit_planes, serves, wants_planes
from graphc.backends.cpu.conv.depthwise import emit_depthwise
from graphc.backends.cpu.conv.direct import emit_direct
from graphc.backends.cpu.conv.pointwise import emit_pointwise
from graphc.backends.cpu.conv.prologue import emit_prologue
from graphc.backends.cpu.conv.window import epilogue_of, epilogue_operands_of, is_pointwise, window_of
from graphc.backends.cpu.conv.winograd import emit_winograd
from graphc.backends.cpu.lower.lowering import CpuLowering
from graphc.backends.cpu.lower.policy import DEFAULT, DEPTHWISE, DIRECT, STRASSEN, Choice, Policy
from graphc.backends.cpu.lower.registry import is_blocked, lowers
from graphc.backends.cpu.target import Target
from graphc.graph import Node
from graphc.lower.elementwise import lower_elementwise
from graphc.lower.fuse import Group


def conv_supported(node: Node, target: Target) -> str | None:
    if node.output.dtype.name not in dense_window.DTYPES:
        return f"convolutions have no {node.output.dtype.name} kernel"
    return "it has more than three spatial dims" if node.output.type.rank > 5 else None


def choose(node: Node, target: Target, policy: Policy = DEFAULT) -> Choice:
    """The algorithm of a convolution on packed operands. It depends on nothing that a layout decides."""
    return algorithms.choose(window_of(node), node.attrs["group"], target, allowed(node, policy))


def allowed(node: Node, policy: Policy) -> Policy:
    """The policy for this node: Winograd's and Strassen's algorithms round, or leave float32's whole numbers, where the
    products of an exact convolution do not."""
    exact = node.attrs["exact"]
    return replace(policy, winograd=0, disabled=policy.disabled | {"strassen"}) if exact else policy


def form(node: Node, target: Target) -> str | None:
    """Few input channels are read from planes: a block of them would be mostly padding; and so are those that become few, as a
    vector of them would be. None: the plain kernel on dense operands, for what the packed ones do not do (weights that are
    computed at run time, float64, no elements)."""
    if node.output.dtype != np.float32 or not all(v.is_const for v in node.operands[1:]):
        return None
    if 0 in node.output.shape or 0 in node.inputs[0].shape:
        return None
    if node.attrs["group"] == 1 and (node.inputs[0].shape[1] <= FEW or wants_planes(window_of(node), target)):
        return "planar"
    return "blocked"


def halo(node: Node, choice: Choice | None) -> tuple[int, int]:
    return (0, 0) if choice is not None and choice.algorithm.tile else window_of(node).halo


def takes_prologue(node: Node, target: Target, choice: Choice) -> bool:
    """Could the convolution compute its input as it reads it? Each pixel should be read at one position."""
    layout = node.inputs[0].type.layout
    if layout is None or layout.c != target.vl or node.attrs["group"] != 1 or not is_pointwise(window_of(node)):
        return False
    return choice.algorithm == DIRECT


def in_blocks(node: Node) -> bool:
    """Is the result blocked, as that of the packed kernels is?"""
    return node.output.type.layout is not None


@lowers(
    "Conv",
    supported=conv_supported,
    form=form,
    choose=choose,
    halo=halo,
    epilogue=in_blocks,
    prologue=takes_prologue,
)
def lower_conv(lo: CpuLowering, group: Group) -> None:
    node = group.anchor
    if not is_blocked(node.inputs[0]):
        dense_window.emit_conv(lo, group)
        return
    w = window_of(node)
    choice = lo.choices[node.output.name]
    epilogue = epilogue_of(group)
    if choice.algorithm == DIRECT and serves(group, w, lo.target):
        emit_planes(lo, group, w, choice.reason, epilogue)
        return
    epilogue_operands = epilogue_operands_of(lo, group)
    if group.prologue and emit_prologue(lo, group, w, choice.reason, epilogue, epilogue_operands):
        return
    if group.prologue:
        lower_elementwise(lo, group.prologue)
        group = replace(group, prologue=None)
    if choice.algorithm == DEPTHWISE:
        emit_depthwise(lo, group, w, epilogue, epilogue_operands)
    elif choice.algorithm.tile:
        emit_winograd(lo, group, w, choice, epilogue, epilogue_operands)
    elif choice.algorithm == STRASSEN:
        why_not = emit_pointwise(lo, group, w, choice.reason, epilogue, epilogue_operands)
        if why_not:
            emit_direct(lo, group, w, f"not {STRASSEN}: {why_not}", epilogue, epilogue_operands)
    else:
        emit_direct(lo, group, w, choice.reason, epilogue, epilogue_operands)
