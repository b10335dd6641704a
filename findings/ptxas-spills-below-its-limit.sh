#!/usr/bin/env bash
# ptxas spills registers to local memory far below the limit of registers, and `.minnctapersm 1` is what stops it.
#
# A kernel of at most 128 threads a block may have 255 registers a thread, so one that needs 56 should not spill. And to ask for at
# least one resident block, which every kernel has, should change nothing: CUDA's guide counts "a single block if
# minBlocksPerMultiprocessor is not specified" (it says too that with both numbers the compiler may take more registers, but not
# that with one it spills). Yet with `.maxntid` alone ptxas stops at 32 registers, as if as many threads as a multiprocessor holds
# were asked for, and spills five numbers:
# - the bound on threads brings the spills, there are none without it;
# - a higher limit, `--maxrregcount 255`, takes none away, since no limit was reached;
# - `.minnctapersm 1` takes all. So does to ask for 16 blocks, all that fit: 32 registers are enough after all.
# In CUDA C `__launch_bounds__(128)` writes the first directive and `__launch_bounds__(128, 1)` both. Which kernels spill is hard to
# foretell (here numbers are kept over two nested loops with guarded loads), so look at what `ptxas -v` says.
#
# Seen with nvidia-cuda-nvcc 13.0.88 for sm_90 (no GPU; sm_100 gives the same, sm_80 and sm_120 do not spill this kernel at .maxntid):
#                                      registers  bytes spilled
#   no directive                       40         0
#   .maxntid 128                       32         20
#   .maxntid 128, --maxrregcount 255   32         20
#   .maxntid 128, .minnctapersm 1      56         0
#   .maxntid 128, .minnctapersm 16     32         0
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check --no-deps nvidia-cuda-nvcc==13.0.88
"$work/venv/bin/python" - "$work"/venv/lib/python3*/site-packages/nvidia/cu13/bin/ptxas "$work" <<'PY'
import re
import subprocess
import sys
from pathlib import Path

PTXAS, FOLDER = sys.argv[1], Path(sys.argv[2])
KEPT = range(16)  # numbers that a thread keeps while it sums
BOUND = ".maxntid 128, 1, 1\n"


def kernel(directives: str) -> str:
    """y = x + the sum of a window of x, whose loop over columns is unrolled twice."""
    load = "".join(f"ld.global.f32 %kept{i}, [%x+{512 * i}];\n" for i in KEPT)
    store = "".join(f"add.f32 %kept{i}, %kept{i}, %sum;\nst.global.f32 [%y+{512 * i}], %kept{i};\n" for i in KEPT)
    taps = "".join(f"""add.s32 %column, %tap, {i};
mad.lo.s32 %column, %column, %row, %thread;
setp.ge.u32 %out, %column, %width;
@%out bra next_{i};
ld.global.u64 %stride, [%strides+8];
cvt.s64.s32 %offset, %column;
mad.lo.s64 %at, %stride, %offset, %x;
ld.global.f32 %one, [%at];
add.f32 %sum, %sum, %one;
next_{i}:
""" for i in range(2))
    return f""".version 9.0
.target sm_90
.address_size 64
.visible .entry k(.param .u64 x, .param .u64 y, .param .u64 strides, .param .u32 rows, .param .u32 taps, .param .u32 width)
{directives}{{
.reg .pred %out, %more;
.reg .f32 %kept<{len(KEPT)}>, %sum, %one;
.reg .b32 %thread, %rows, %taps, %width, %row, %tap, %column;
.reg .b64 %x, %y, %strides, %at, %stride, %offset;
ld.param.u64 %x, [x];
ld.param.u64 %y, [y];
ld.param.u64 %strides, [strides];
ld.param.u32 %rows, [rows];
ld.param.u32 %taps, [taps];
ld.param.u32 %width, [width];
mov.u32 %thread, %tid.x;
mad.wide.u32 %x, %thread, 4, %x;
mad.wide.u32 %y, %thread, 4, %y;
{load}mov.f32 %sum, 0f00000000;
mov.u32 %row, 0;
each_row:
ld.global.u64 %stride, [%strides];
add.s64 %x, %x, %stride;
mov.u32 %tap, 0;
each_tap:
{taps}add.s32 %tap, %tap, 2;
setp.lt.u32 %more, %tap, %taps;
@%more bra each_tap;
add.s32 %row, %row, 1;
setp.lt.u32 %more, %row, %rows;
@%more bra each_row;
{store}ret;
}}
"""


def compiled(directives: str, *options: str) -> tuple[int, int]:
    """Registers, and bytes that are spilled."""
    text = FOLDER / "k.ptx"
    text.write_text(kernel(directives))
    command = [PTXAS, "-v", "-arch=sm_90", *options, str(text), "-o", str(FOLDER / "k.cubin")]
    report = subprocess.run(command, check=True, stderr=subprocess.PIPE, text=True).stderr
    registers, spilled = re.search(r"Used (\d+) registers", report), re.search(r"(\d+) bytes spill stores", report)
    return int(registers[1]), int(spilled[1])


CASES = {
    "no directive": (compiled(""), (40, 0)),
    ".maxntid 128": (compiled(BOUND), (32, 20)),
    ".maxntid 128, --maxrregcount 255": (compiled(BOUND, "--maxrregcount", "255"), (32, 20)),
    ".maxntid 128, .minnctapersm 1": (compiled(BOUND + ".minnctapersm 1\n"), (56, 0)),
    ".maxntid 128, .minnctapersm 16": (compiled(BOUND + ".minnctapersm 16\n"), (32, 0)),
}
print(" " * 34, "registers  bytes spilled")
for name, ((registers, spilled), _) in CASES.items():
    print(name.ljust(34), str(registers).ljust(10), spilled)
wrong = [name for name, (seen, expected) in CASES.items() if seen != expected]
assert not wrong, f"the behaviour has changed: {wrong}"
PY
