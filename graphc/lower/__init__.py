"""Lowering as far as it is the same for all backends: groups of nodes -> steps over one arena.

lowering.py is the context, verbs.py what a backend gives it, registry.py what lowers each operator. Stages that backends share are
in layout.py, fuse.py, placement.py, program.py and memory.py; most other modules lower a family of operators.
"""
