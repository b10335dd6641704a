"""Files that mean harm: damaged ones, lying ones, hand-made ones, and inputs out of every range.

    python -m tests.harm --files 50000 --seed 0

corpus.py    models to begin with: of every operator's samples, of tests/fuzz, and YAML files
mutate.py    damage to bytes, to fields of ONNX messages, to YAML text
hostile.py   files made by hand, one function for each kind
arrays.py    arrays for a model's inputs, whose values are out of range
make.py      a file and inputs from a seed and a number
attempt.py   load, compile, run; what came of it
watch.py     limits of a process, and what it opens
worker.py    a process that tries files
campaign.py  many files in processes of their own, and a summary
"""
