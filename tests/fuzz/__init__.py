"""Random ONNX models, run by every engine on the same inputs.

    python -m tests.fuzz --models 10000 --seed 0

draws.py     random numbers, shapes and arrays
exact.py     what of an operator's result is exact, and how far rounding may carry the rest
draft.py     a model under construction: every node is evaluated when it is added, in float64
steps/       what a model may hold, a module per family
generate.py  a whole model from a seed and a number
case.py      the model with inputs, results and tolerances; on disk and back
engines.py   graphc's targets and ONNX Runtime
compare.py   results against the expected ones
peers.py     what ONNX Runtime is known to get wrong or to refuse
shrink.py    a failing model with a few nodes
check.py     a case through all engines, and what came of it
process.py   a process that is given numbers
campaign.py  many cases in processes of their own, and a summary
"""
