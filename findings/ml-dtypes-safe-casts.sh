#!/usr/bin/env bash
# NumPy calls casts of bytes to ml_dtypes' floats of 8 and 4 bits safe, though most of their numbers change.
#
# numpy.can_cast(a, b, "safe") means "no number changes", and for NumPy's own types it holds (int64 to float64 apart). ml_dtypes registers
# int8 and uint8 as safely castable to each of its floats, so that can_cast, result_type and promote_types answer by that: uint8 with
# float8_e5m2, which has 3 significant bits, is float8_e5m2, and with float4_e2m1fn, whose largest number is 6, float4_e2m1fn. A compiler
# that drops the first of two casts where can_cast says it is safe, or a model converter that picks the common type, computes something else.
# Casts between the floats themselves are the other way round: float8_e5m2 to float16, which is exact, is not called safe.
#
# Seen with numpy 2.4.6 and ml_dtypes 0.5.4, numbers of 0 to 255 that change in a "safe" cast of uint8:
#   bfloat16 0, float8_e4m3fn 208, float8_e5m2 228, float4_e2m1fn 250
# and of float8_e5m2 to float16: none, and it is not safe
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check ml_dtypes==0.5.4 numpy==2.4.6
"$work/venv/bin/python" - <<'PY'
import ml_dtypes
import numpy as np

numbers = np.arange(256, dtype=np.uint8)
changed = {}
with np.errstate(all="ignore"):
    for name in ("bfloat16", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"):
        kind = np.dtype(getattr(ml_dtypes, name))
        assert np.can_cast(np.uint8, kind, "safe"), name
        changed[name] = int((numbers.astype(kind).astype(np.float64) != numbers).sum())
    print("uint8, safe by can_cast; of 256 numbers change:", changed)
    print("uint8 and float8_e5m2 promote to", np.promote_types(np.uint8, ml_dtypes.float8_e5m2))
    codes = np.arange(256, dtype=np.uint8).view(ml_dtypes.float8_e5m2)
    same = np.array_equal(codes.astype(np.float64), codes.astype(np.float16).astype(np.float64), equal_nan=True)
    safe = np.can_cast(ml_dtypes.float8_e5m2, np.float16, "safe")
    print("float8_e5m2 to float16: exact", same, "safe", safe)
assert changed["bfloat16"] == 0 and min(changed["float8_e4m3fn"], changed["float8_e5m2"], changed["float4_e2m1fn"]) > 200
assert np.promote_types(np.uint8, ml_dtypes.float8_e5m2) == ml_dtypes.float8_e5m2
assert same and not safe
PY
echo "as described"
