"""What a file and who loads it must agree on: how its documents are laid out, and how native code takes its arguments."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import fields

from graphc.backends.cpu import sizes
from graphc.backends.cpu.executor.program_block import BIND, ENTRY, PROGRAM_STEP
from graphc.classes import Sources
from graphc.lower.assembled import Assembled
from graphc.lower.codes import Code
from graphc.lower.plans import CompiledPlan
from graphc.lower.registers import Binding, SizeProgram
from graphc.signature import Signature, Spec

VERSION = 1  # for what the text below does not tell
RECORDS = (Assembled, Binding, CompiledPlan, SizeProgram, Sources, Signature, Spec)


def abi() -> str:
    """'1.…': the version, and a digest of names and numbers of both sides."""
    blocks = [[*b.at] for b in (BIND, ENTRY, PROGRAM_STEP)]
    numbers = sizes.CACHE_LINE, sizes.CONTROL_BYTES, sizes.MASK_BYTES
    codes = [(c.name, int(c)) for c in Code]
    text = repr((blocks, numbers, codes, [(r.__name__, [f.name for f in fields(r)]) for r in RECORDS]))
    return f"{VERSION}.{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def version() -> str:
    """graphc's. (Its package imports this one: an import would be a circle.)"""
    return sys.modules["graphc"].__version__
