"""How much one call of a verb must take at least (see verbs.py): lowering asks no backend for more."""

WIDEST = 8  # bytes of an element of such a copy
TABLE_AXES = 7  # axes, or runs of axes that stay as they are, of a copy by tables
PASS_DIMS, PASS_RECORDS = 6, 16  # loops around passes; operands and outputs of passes together
INDEX_DIMS, INDEX_AXES = 6, 8  # loops over positions; axes that a position is looked up in
