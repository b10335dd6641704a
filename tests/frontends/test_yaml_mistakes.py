"""What people write by mistake, and the whole message that they get: what is wrong, where, and what to do.

They come from PyTorch, Keras and ONNX, or are new to YAML. One mistake gives one message, but for a few that are two.
"""

from __future__ import annotations

import pytest

from graphc.errors import GraphcError
from graphc.frontends.yaml_load import loads_yaml

FEATURES = "graphc: 1\ninputs: {x: [batch, 8]}\n"
IMAGE = "graphc: 1\ninputs: {x: [batch, 3, 8, 8]}\n"
STEPS = "graphc: 1\ninputs: {x: [batch, steps, 8]}\n"

MISTAKES = [
    # --- expressions
    (FEATURES, "net: [{let: {y: min(x, 2)}}]",
     "line 3, column 17: the comma in 'min(x, 2)' ends the text inside { } and [ ]\n"
     "  quote the text: \"min(x, 2)\""),
    (FEATURES, "net: [{let: min(x, 2)}]",
     "line 3, column 13: the comma in 'min(x, 2)' ends the text inside { } and [ ]\n"
     "  quote the text: \"min(x, 2)\""),
    (FEATURES, "net: [{let: \"softmax(x)\"}]",
     "line 3, column 13: no function is named 'softmax'\n"
     "  it is a layer, a step of its own: - softmax\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"sum(x)\"}]",
     "line 3, column 13: no function is named 'sum'\n"
     "  it is a layer, a step of its own: - sum: {axis: …}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"pow(x, 2)\"}]",
     "line 3, column 13: no function is named 'pow'\n"
     "  write x^y\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"gelu(x)\"}]",
     "line 3, column 13: no function is named 'gelu'\n"
     "  it is a layer, a step of its own: - gelu\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"mean(x)\"}]",
     "line 3, column 13: no function is named 'mean'\n"
     "  it is a layer, a step of its own: - mean: {axis: …}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"maximum(x, 0)\"}]",
     "line 3, column 13: no function is named 'maximum'\n"
     "  write max(a, b)\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"np.exp(x)\"}]",
     "line 3, column 15: unexpected '.' in 'np.exp(x)'\n"
     "  names have no dots: functions go by their own, exp(x), and values by theirs\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"x.T\"}]",
     "line 3, column 14: unexpected '.' in 'x.T'\n"
     "  names have no dots: functions go by their own, exp(x), and values by theirs\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"x @ x\"}]",
     "line 3, column 15: unexpected '@' in 'x @ x'\n"
     "  a product of matrices is a step: matmul: {from: [a, b]}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"x[0]\"}]",
     "line 3, column 14: unexpected '[' in 'x[0]'\n"
     "  a part of a value is a step: slice, gather or split\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"x && x\"}]",
     "line 3, column 15: unexpected '&' in 'x && x'\n"
     "  write `and`\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"x if x > 0 else 0\"}]",
     "line 3, column 15: unexpected 'if' in 'x if x > 0 else 0'\n"
     "  write where(condition, a, b)\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"y = x + 1\"}]",
     "line 3, column 15: unexpected '=' in 'y = x + 1'\n"
     "  the name goes before the colon: let: {y: x + 1}; == compares\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"sigmoid x\"}]",
     "line 3, column 13: no value is named 'sigmoid' here\n"
     "  a function takes ( ): sigmoid(x)\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"max(x)\"}]",
     "line 3, column 13: max() takes two arguments or more, not 1\n"
     "  along an axis it is a layer: - max: {axis: …}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"2x\"}]",
     "line 3, column 14: unexpected 'x' in '2x'\n"
     "  a product is written 2*x\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: \"tanh(y)\"}]",
     "line 3, column 18: no value is named 'y' here\n"
     "  named so far: last, x\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{let: [x + 1]}]",
     "line 3, column 13: an expression must be text, not a list\n"
     "  for example: let: {y: exp(-x)}\n"
     "  shapes so far: x float32[batch, 8]"),
    # --- what a step reads
    (FEATURES, "net: [{add: [x, x]}]",
     "line 3, column 13: what 'add' reads can't stand behind its colon\n"
     "  name it by `from`: add: {from: [x, x]}"),
    (FEATURES, "net: [{concat: [x, x]}]",
     "line 3, column 16: what 'concat' reads can't stand behind its colon\n"
     "  name it by `from`: concat: {from: [x, x]}"),
    (FEATURES, "net: [{matmul: [x, x]}]",
     "line 3, column 16: what 'matmul' reads can't stand behind its colon\n"
     "  name it by `from`: matmul: {from: [x, x]}"),
    (FEATURES, "net: [{concat: {inputs: [x, x]}}]",
     "line 3, column 17: 'concat' has no argument 'inputs': what it reads goes by `from`"),
    (FEATURES, "net: [{add: x}]",
     "line 3, column 13: what 'add' reads can't stand behind its colon\n"
     "  name it by `from`: add: {from: [last, x]}"),
    (FEATURES, "net: [add]",
     "line 3, column 7: add: needs at least two operands\n"
     "  name them: from: [a, b]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{relu: x}]",
     "line 3, column 14: what 'relu' reads can't stand behind its colon\n"
     "  name it by `from`: relu: {from: x}"),
    (FEATURES, "net: [{relu: {from: y}}]",
     "line 3, column 21: no value is named 'y' here\n"
     "  named so far: last, x\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{relu: {from: y}}, {tanh: {as: y}}]",
     "line 3, column 21: no value is named 'y' here\n"
     "  line 3 gives that name, but a step reads what stands before it; `loop` and `scan` feed results back\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{relu: {from: 0}}]",
     "line 3, column 21: `from` names values, and 0 is none\n"
     "  numbers can be among the `inputs` of an operator: Add: {inputs: [a, 2.0]}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{add: {from: [x, 2]}}]",
     "line 3, column 24: `from` names values, and 2 is none\n"
     "  numbers can be among the `inputs` of an operator: Add: {inputs: [a, 2.0]}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{add: {from: x}}]",
     "line 3, column 8: add: needs at least two operands\n"
     "  name them: from: [a, b]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{relu: {input: x}}]",
     "line 3, column 15: 'relu' has no argument 'input': what it reads goes by `from`"),
    (FEATURES, "net: [{relu: {inputs: [x]}}]",
     "line 3, column 15: 'relu' has no argument 'inputs': what it reads goes by `from`"),
    (FEATURES, "net: [{relu: {name: a}}, {tanh: {from: a}}]",
     "line 3, column 40: no value is named 'a' here\n"
     "  `name` names a step's weights: `as: a` names its result\n"
     "  shapes so far: x float32[batch, 8] -> net.a float32[batch, 8]"),
    (FEATURES, "net: [b]\n" "blocks: {b: {inputs: [x, y], body: [{add: {from: [x, y]}}]}}",
     "line 3, column 7: 'b' reads two values, not one value\n"
     "  name them: from: [a, b]\n"
     "  shapes so far: x float32[batch, 8]"),
    ("", "graphc: 1\n" "inputs: {a: [b, 2], c: [b, 2]}\n" "net: [relu]",
     "line 3, column 7: 'relu' reads one value, and there is none here\n"
     "  nothing stands before it: name what it reads: from: NAME\n"
     "  shapes so far: a float32[b, 2] -> c float32[b, 2]"),
    # --- arguments of layers
    (FEATURES, "net: [{dense: {out: 3, weight: [[1]]}}]",
     "line 3, column 24: 'dense' has no argument 'weight': its weights go into `weights: {weight: …}`"),
    (FEATURES, "net: [{dense: {out: 3, bias: zeros}}]",
     "line 3, column 30: 'bias' of 'dense' must be true or false, not 'zeros'\n"
     "  its numbers, or how they are drawn, go into `weights: {bias: …}`"),
    (FEATURES, "net: [{dense: {out: 3, bias: [1,2,3]}}]",
     "line 3, column 30: 'bias' of 'dense' must be true or false, not a list\n"
     "  its numbers, or how they are drawn, go into `weights: {bias: …}`"),
    (FEATURES, "net: [{dense: {out: 3, init: xavier}}]",
     "line 3, column 24: 'dense' has no argument 'init': its weights go into `weights: {weight: …}`"),
    (FEATURES, "net: [{dense: {out: -3}}]",
     "line 3, column 21: 'out' of 'dense' must be at least 1, not -3"),
    (FEATURES, "net: [{dense: {out: 2.5}}]",
     "line 3, column 21: 'out' of 'dense' must be a whole number, not 2.5"),
    (FEATURES, "net: [dense]",
     "line 3, column 7: 'dense' needs 'out' (it also takes bias)"),
    (FEATURES, "net: [{dense: ten}]",
     "line 3, column 15: 'out' of 'dense' must be a whole number, not 'ten'"),
    (FEATURES, "net: [{dense: [8, 10]}]",
     "line 3, column 15: 'out' of 'dense' must be a whole number, not a list"),
    (FEATURES, "net: [{dense: {in: 8, out: 10}}]",
     "line 3, column 16: 'dense' has no argument 'in': it follows from what comes in"),
    (FEATURES, "net: [{dense: {out: 10, activation: relu}}]",
     "line 3, column 25: 'dense' has no argument 'activation': it is a step of its own behind this one"),
    (IMAGE, "net: [{conv: {out: 8, k: 0}}]",
     "line 3, column 26: 'k' of 'conv' must be at least 1, not 0"),
    (IMAGE, "net: [{conv: {out: 8, k: 3x3}}]",
     "line 3, column 26: 'k' of 'conv' must be a whole number or a list of whole numbers, not '3x3'"),
    (IMAGE, "net: [{conv: {out: 8, k: (3, 3)}}]",
     "line 3, column 26: '(3, 3)' is no list: YAML has no tuples\n"
     "  a list stands in [ ]: [3, 3]"),
    (IMAGE, "net: [{conv: {out: 8, pad: SAME}}]",
     "line 3, column 28: 'pad' of 'conv' must be 'same' or 'valid' or 'same_upper' or a whole number or a list of whole numbers, not 'SAME'\n"
     "  did you mean 'same'?"),
    (IMAGE, "net: [{conv: {out: 8, bias: no}}]",
     "line 3, column 29: 'bias' of 'conv' must be true or false, not 'no'\n"
     "  write false"),
    (IMAGE, "net: [{bn: 8}]",
     "line 3, column 12: 'eps' of 'bn' must be from 0 to 1, not 8\n"
     "  the number of channels follows from what comes in"),
    (STEPS, "net: [{attention: 0}]",
     "line 3, column 19: 'heads' of 'attention' must be at least 1, not 0"),
    (FEATURES, "net: [{dropout: 2}]",
     "line 3, column 8: dropout: p is a probability, from 0 to 1, not 2.0\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{reshape: [batch, 2, 4]}]",
     "line 3, column 18: 'shape' of 'reshape' must be a list of whole numbers, not of 'batch'\n"
     "  0 keeps a dim of the input, -1 takes what is left"),
    (FEATURES, "net: [{flatten: {start_dim: 1}}]",
     "line 3, column 18: 'flatten' has no argument 'start_dim': it is called `axis`"),
    (FEATURES, "net: [{scale: {by: 1/sqrt($w)}}]",
     "line 3, column 20: unknown variable '$w': known here: channels, features, i"),
    (FEATURES, "net: [{scale: sqrt}]",
     "line 3, column 15: 'by' of 'scale' must be a number, not 'sqrt'"),
    (FEATURES, "net: [{slice: {axis: 1, start: 0, stop: 4}}]",
     "line 3, column 35: 'slice' has no argument 'stop': it is called `end`"),
    (FEATURES, "net: [{mean: {dim: 1}}]",
     "line 3, column 15: 'mean' has no argument 'dim': it is called `axis`"),
    (FEATURES, "net: [{Dense: {units: 3, activation: relu}}]",
     "line 3, column 8: unknown layer 'Dense': here it is `dense: {out: …}`"),
    # --- ranks and shapes
    (FEATURES, "net: [{conv: 8}]",
     "line 3, column 8: conv: needs an input of rank 3 or 4 or 5, not float32[batch, 8]\n"
     "  it reads [batch, channels, …], images for example\n"
     "  shapes so far: x float32[batch, 8]"),
    (STEPS, "net: [{conv: 8}]",
     "line 3, column 8: conv: the number of channels must be a number, but the input is float32[batch, steps, 8]\n"
     "  give axis 1 of the input a fixed size, or bring the channels there: {transpose: {perm: [0, 2, 1]}}\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    (IMAGE, "net: [{dense: 8}]",
     "line 3, column 8: dense: needs an input of rank 2 or 3, not float32[batch, 3, 8, 8]\n"
     "  put `flatten` or `global_avgpool` before it\n"
     "  shapes so far: x float32[batch, 3, 8, 8]"),
    (IMAGE, "net: [{conv: {out: 8, k: [3, 3, 3]}}]",
     "line 3, column 8: conv: k has 3 numbers, but the input has 2 spatial axes\n"
     "  give one number, or 2\n"
     "  shapes so far: x float32[batch, 3, 8, 8]"),
    (IMAGE, "net: [{conv: {out: 8, groups: 2}}]",
     "line 3, column 8: conv: groups 2 does not divide 3 input and 8 output channels\n"
     "  shapes so far: x float32[batch, 3, 8, 8]"),
    (IMAGE, "net: [{conv: {out: 8, k: 33}}]",
     "line 3, column 8: Conv 'net.0.conv': axis 2 of size 8 with padding 0 + 0 is smaller than a window of 33 (kernel 33, dilation 1): the output size would not be positive\n"
     "  operand types: float32[batch, 3, 8, 8], float32[8, 3, 33, 33], float32[8]\n"
     "  check kernel, strides, dilations and pads against the size of the input\n"
     "  shapes so far: x float32[batch, 3, 8, 8]"),
    (IMAGE, "net: [{lstm: 8}]",
     "line 3, column 8: lstm: needs an input of rank 3, not float32[batch, 3, 8, 8]\n"
     "  a recurrent layer reads [batch, steps, features]\n"
     "  shapes so far: x float32[batch, 3, 8, 8]"),
    (STEPS, "net: [{attention: {heads: 3}}]",
     "line 3, column 8: attention: 3 heads do not divide 8 features\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    (FEATURES, "net: [{embedding: {vocab: 10, dim: 4}}]",
     "line 3, column 8: embedding: takes whole numbers, not float32[batch, 8]\n"
     "  declare the input with dtype: int64\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{softmax: {axis: 5}}]",
     "line 3, column 8: Softmax 'net.0.softmax': axis 5 is out of range for rank 2\n"
     "  operand types: float32[batch, 8]\n"
     "  use an axis from -2 to 1\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{reshape: [-1, -1]}]",
     "line 3, column 8: Reshape 'net.0.reshape/Reshape_2': shape [-1, -1] has more than one -1\n"
     "  operand types: float32[batch, 8], int64[2]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{transpose: [0, 1, 2]}]",
     "line 3, column 8: Transpose 'net.0.transpose': perm [0, 1, 2] is not a permutation of the axes of float32[batch, 8]\n"
     "  operand types: float32[batch, 8]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{topk: 100}]",
     "line 3, column 8: TopK 'net.0.topk/TopK_2': k is 100, axis 1 of float32[batch, 8] has 8 entries\n"
     "  operand types: float32[batch, 8], int64[1]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{mean: {axis: 7}}]",
     "line 3, column 8: ReduceMean 'net.0.mean/ReduceMean_2': axis 7 is out of range for rank 2\n"
     "  operand types: float32[batch, 8], int64[1]\n"
     "  use an axis from -2 to 1\n"
     "  shapes so far: x float32[batch, 8]"),
    ("", "graphc: 1\n" "inputs: {x: [batch]}\n" "net: [{dense: 3}]",
     "line 3, column 8: dense: needs an input of rank 2 or 3, not float32[batch]\n"
     "  it reads [batch, features]\n"
     "  shapes so far: x float32[batch]"),
    ("", "graphc: 1\n" "inputs: {x: [batch, d]}\n" "net: [{dense: 3}]",
     "line 3, column 8: dense: the number of features must be a number, but the input is float32[batch, d]\n"
     "  give axis -1 of the input a fixed size\n"
     "  shapes so far: x float32[batch, d]"),
    ("", "graphc: 1\n" "inputs: {a: [b, 2], c: [b, 3]}\n" "net: [{add: {from: [a, c]}}]",
     "line 3, column 8: Add 'net.0.add': shapes (b, 2) and (b, 3) do not broadcast at axis -1\n"
     "  operand types: float32[b, 2], float32[b, 3]\n"
     "  make the dims equal, or 1 where one is to be repeated\n"
     "  shapes so far: a float32[b, 2] -> c float32[b, 3]"),
    (FEATURES, "net: [{share: w, dense: 3}, {dense: {out: 4, share: w}}]",
     "line 3, column 30: dense: shared weight 'w.weight' has shape [3, 8] where first used, [4, 3] here\n"
     "  shapes so far: x float32[batch, 8] -> net.0.dense float32[batch, 3]"),
    # --- structures
    (FEATURES, "net: [{repeat: 3}]",
     "line 3, column 16: 'repeat' must be a mapping (key: value), not a whole number\n"
     "  for example: repeat: {n: 3, of: ...}"),
    (FEATURES, "net: [{repeat: {times: 3, of: relu}}]",
     "line 3, column 17: repeat has no 'times': it is called `n`"),
    (FEATURES, "net: [{repeat: {count: 3, body: [relu]}}]",
     "line 3, column 17: repeat has no 'count': it is called `n`\n"
     "line 3, column 27: repeat has no 'body': it is called `of`"),
    (FEATURES, "net: [{loop: {n: 3, body: [relu]}}]",
     "line 3, column 21: loop has no 'body': it is called `of`"),
    (FEATURES, "net: [{branch: [[relu], [tanh]]}]",
     "line 3, column 16: 'branch' must be a mapping (key: value), not a list\n"
     "  for example: branch: {join: add, paths: {main: [...], skip: identity}}"),
    (FEATURES, "net: [{branch: {join: sum, paths: {a: relu, b: tanh}}}]",
     "line 3, column 23: join must be 'add' or 'mul' or 'mean' or 'max' or 'concat', not 'sum'\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{branch: {paths: {a: relu, b: tanh}}}]",
     "line 3, column 8: branch needs 'join'\n"
     "  branch: {join: add, paths: {main: [...], skip: identity}}"),
    (FEATURES, "net: [{branch: {join: add, paths: [relu, tanh]}}]",
     "line 3, column 35: paths must be a mapping (key: value), not a list\n"
     "  for example: paths: {main: [{conv: 8}], skip: []}"),
    (FEATURES, "net: [{branch: {join: add, a: relu, b: tanh}}]",
     "line 3, column 28: branch has no 'a'\n"
     "  known: axis, join, paths\n"
     "line 3, column 37: branch has no 'b'\n"
     "  known: axis, join, paths"),
    (FEATURES, "net: [{branch: {join: add, paths: {a: {dense: 3}, b: {dense: 4}}}}]",
     "line 3, column 8: branch: the paths can't be joined by add:\n"
     "  a: float32[batch, 3]\n"
     "  b: float32[batch, 4]\n"
     "  the paths must be of one size\n"
     "  shapes so far: x float32[batch, 8] -> net.0.a.0.dense float32[batch, 3] -> net.0.b.0.dense float32[batch, 4]"),
    (FEATURES, "net: [{branch: {join: concat, axis: 3, paths: {a: {dense: 3}, b: {dense: 4}}}}]",
     "line 3, column 8: branch: axis 3 is out of range for float32[batch, 3]\n"
     "  use an axis from -2 to 1\n"
     "  shapes so far: x float32[batch, 8] -> net.0.a.0.dense float32[batch, 3] -> net.0.b.0.dense float32[batch, 4]"),
    (FEATURES, "net: [{branch: {join: add, paths: {}}}]",
     "line 3, column 8: branch: it has no paths\n"
     "  for example: paths: {main: [{conv: 8}], skip: []}\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{if: x > 0, then: [relu]}]",
     "line 3, column 12: the condition of if must be true or false, not 'x > 0'\n"
     "  `if` chooses by params and arguments, $name; `when` chooses by values, when the model runs\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{if: $train, then: [relu]}]",
     "line 3, column 12: unknown variable '$train': known here: channels, features, i"),
    (FEATURES, "net: [{if: true, then: relu, elif: tanh}]",
     "line 3, column 30: there is no 'elif': write else: [{if: …, then: […]}]"),
    (FEATURES, "net: [{if: true}]",
     "line 3, column 7: if needs `then`\n"
     "  for example: - if: $s > 1\n"
     "    then: [{maxpool: 2}]"),
    (FEATURES, "net: [{when: x > 0, then: [relu]}]",
     "line 3, column 14: the condition must be one boolean, bool[], not bool[batch, 8]\n"
     "  compare, and reduce to one: ReduceMin (all) and ReduceMax (any) take booleans\n"
     "  shapes so far: x float32[batch, 8] -> net.0.condition.0 bool[batch, 8]"),
    (FEATURES, "net: [{while: {condition: a < 3, of: [relu]}}]",
     "line 3, column 8: while needs 'states', 'at_most'\n"
     "  while: {states: {x: x0}, condition: NAME, at_most: 100, of: [...]}"),
    # --- scans and their states
    (STEPS, "net: [{scan: {over: x, of: [{dense: 3}], collect: [y]}}]",
     "line 3, column 52: no value is named 'y' here\n"
     "  named so far: last, x\n"
     "  shapes so far: x float32[batch, steps, 8] -> net.0.0.dense float32[batch, 3]"),
    (STEPS, "net: [{scan: {over: x, states: {h: zeros}, of: [{dense: {out: 8, as: h}}]}}]",
     "line 3, column 36: no value is named 'zeros' here\n"
     "  a state of zeros says its shape: {shape: [batch, 8]}\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    (STEPS, "net: [{scan: {over: x, states: {h: 0}, of: [{dense: {out: 8, as: h}}]}}]",
     "line 3, column 66: state 'h' is int64[] at first and float32[batch, 8] after a step\n"
     "  a state of zeros says its shape: {shape: [batch, 8]}\n"
     "  shapes so far: x float32[batch, steps, 8] -> net.0.0.dense float32[batch, 8]"),
    (STEPS, "net: [{scan: {over: x, states: [h], of: [{dense: {out: 8, as: h}}]}}]",
     "line 3, column 32: states must be a mapping (key: value), not a list\n"
     "  for example: states: {h: {shape: [batch, 8]}}\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    (STEPS, "net: [{scan: {over: x, states: {h: {shape: [batch, 8]}}, of: [{dense: {out: 4, as: h}}]}}]",
     "line 3, column 84: state 'h' is float32[batch, 8] at first and float32[batch, 4] after a step\n"
     "  every step must give what it was given\n"
     "  shapes so far: x float32[batch, steps, 8] -> net.0.0.dense float32[batch, 4]"),
    (STEPS, "net: [{scan: {over: x, states: {h: {shape: [n, 8]}}, of: [{dense: {out: 8, as: h}}]}}]",
     "line 3, column 45: no input has a size 'n'\n"
     "  sizes of inputs: batch, steps\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    (STEPS, "net: [{scan: {over: x, states: {h: {shape: [batch, 8]}}, of: [{dense: {out: 8}}]}}]",
     "line 3, column 33: no step gives the next 'h'\n"
     "  name what it becomes: as: h\n"
     "  shapes so far: x float32[batch, steps, 8] -> net.0.0.dense float32[batch, 8]"),
    (STEPS, "net: [{scan: {over: x, of: [{sum: {axis: [0, 1], as: s}}], collect: [s]}}]",
     "line 3, column 70: 's' is float32[]: it can't be stacked along axis 1\n"
     "  give it axes, in a step before: unsqueeze: 0\n"
     "  shapes so far: x float32[batch, steps, 8] -> net.0.0.sum float32[]"),
    (STEPS, "net: [{scan: {x: x, of: [relu]}}]",
     "line 3, column 15: scan has no 'x'\n"
     "  known: axis, collect, of, over, reverse, states"),
    (STEPS, "net: [{scan: {over: x, of: [{relu: {as: y}}]}}, {tanh: {from: y}}]",
     "line 3, column 8: scan gives nothing: it has neither states nor `collect`\n"
     "  for example: collect: [y]\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    # --- names
    (FEATURES, "net: [{relu: {as: a}}, {tanh: {as: a}}]",
     "line 3, column 36: the name 'a' is taken\n"
     "  by line 3, column 19: choose another\n"
     "  shapes so far: x float32[batch, 8] -> net.0.relu float32[batch, 8] -> net.1.tanh float32[batch, 8]"),
    (FEATURES, "net: [{relu: {as: last}}]",
     "line 3, column 19: 'last' always means what the step before gave\n"
     "  choose another name\n"
     "  shapes so far: x float32[batch, 8] -> net.0.relu float32[batch, 8]"),
    (FEATURES, "net: [{relu: {as: x}}]",
     "line 3, column 19: the name 'x' is taken\n"
     "  by line 2, column 10: choose another\n"
     "  shapes so far: x float32[batch, 8] -> net.0.relu float32[batch, 8]"),
    (FEATURES, "net: [{relu: {as: my-name}}, {let: my-name + 1}]",
     "line 3, column 19: 'my-name' can't be the name of a value\n"
     "  a name is of letters, digits and _, does not begin with a digit, and is none of true, false, and, or, not\n"
     "  shapes so far: x float32[batch, 8] -> net.0.relu float32[batch, 8]\n"
     "line 3, column 36: no value is named 'my' here\n"
     "  named so far: last, x\n"
     "  shapes so far: x float32[batch, 8] -> net.0.relu float32[batch, 8]"),
    (FEATURES, "net: [{relu: {as: 3}}]",
     "line 3, column 19: what `as` gives must be a name, not a whole number (3)\n"
     "  shapes so far: x float32[batch, 8] -> net.0.relu float32[batch, 8]"),
    (FEATURES, "net: [{dense: {out: 3, as: [a, b]}}]",
     "line 3, column 28: `as` gives 2 names, and the step gives 1 value\n"
     "  shapes so far: x float32[batch, 8] -> net.0.dense float32[batch, 3]"),
    ("", "graphc: 1\n" "inputs: {last: [n, 2]}\n" "net: [relu]",
     "line 2, column 10: 'last' always means what the step before gave\n"
     "  choose another name"),
    ("", "graphc: 1\n" "inputs: {my-input: [n, 2]}\n" "net: [{let: my-input + 1}]",
     "line 3, column 13: no value is named 'my' here\n"
     "  'my-input' can't stand in an expression; name it anew: {identity: {from: my-input, as: my}}\n"
     "  shapes so far: my-input float32[n, 2]"),
    # --- steps
    (FEATURES, "net: [{dense: 10, relu: {}}]",
     "line 3, column 7: a step has one name, not 2 (dense, relu)\n"
     "  begin each step with its own '-'; beside the name only as, from, share, name and weights can stand"),
    (FEATURES, "net: [{dense: 10, activation: relu}]",
     "line 3, column 7: a step has one name, not 2 (dense, activation)\n"
     "  begin each step with its own '-'; beside the name only as, from, share, name and weights can stand"),
    (FEATURES, "net: []",
     "line 3, column 6: the net has no steps\n"
     "  for example: net: [{dense: 10}, relu]"),
    (FEATURES, "net:",
     "line 3, column 5: the net has no steps\n"
     "  for example: net: [{dense: 10}, relu]"),
    (FEATURES, "net: [3]",
     "line 3, column 7: a step must be a name or {name: arguments}, not a whole number\n"
     "  for example: - conv: {out: 64, k: 3}"),
    (FEATURES, "net: [null]",
     "line 3, column 7: a step must be a name or {name: arguments}, not nothing\n"
     "  for example: - conv: {out: 64, k: 3}"),
    (FEATURES, "net: [{}]",
     "line 3, column 7: a step has one name, not 0 (none)\n"
     "  begin each step with its own '-'; beside the name only as, from, share, name and weights can stand"),
    (FEATURES, "net: [relu()]",
     "line 3, column 7: unknown layer 'relu()'\n"
     "  a layer is a name with arguments, not a call: relu"),
    (FEATURES, "net: [ReLU(inplace=True)]",
     "line 3, column 7: unknown layer 'ReLU(inplace=True)'\n"
     "  a layer is a name with arguments, not a call: relu"),
    (FEATURES, "net: [\"dense 10\"]",
     "line 3, column 7: unknown layer 'dense 10'\n"
     "  a ':' must follow the name: dense: 10"),
    (FEATURES, "net: [dense(10)]",
     "line 3, column 7: unknown layer 'dense(10)'\n"
     "  a layer is a name with arguments, not a call: dense: 10"),
    (FEATURES, "net: [{nn.Linear: {in_features: 8, out_features: 10}}]",
     "line 3, column 8: unknown layer 'nn.Linear': here it is `dense: {out: …}`"),
    (FEATURES, "net: [{dense: $out}]",
     "line 3, column 15: unknown variable '$out': known here: channels, features, i"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense:\n" "    out: 10",
     "line 5, column 5: a step has one name, not 2 (dense, out)\n"
     "  arguments stand in braces, or deeper than the name: - dense: {out: 10}"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense:\n" "    out: 10\n" "    bias: false",
     "line 5, column 5: a step has one name, not 3 (dense, out, bias)\n"
     "  arguments stand in braces, or deeper than the name: - dense: {out: 10, bias: false}"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  dense: 10\n" "  relu:",
     "line 5, column 3: a step has one name, not 2 (dense, relu)\n"
     "  begin each step with its own '-'; beside the name only as, from, share, name and weights can stand"),
    # --- operators
    (FEATURES, "net: [{Foo: {inputs: [x]}}]",
     "line 3, column 8: unknown layer 'Foo'\n"
     "  did you mean 'Floor'?"),
    (FEATURES, "net: [{Cast: {to: float}}]",
     "line 3, column 19: unknown dtype 'float'\n"
     "  write float32"),
    (FEATURES, "net: [Cast]",
     "line 3, column 7: Cast 'net.0.Cast': attribute 'to' is missing\n"
     "  operand types: float32[batch, 8]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{Gemm: {transB: 1, inputs: [x, x]}}]\n" "defaults: {Gemm: {transB: 1}}",
     "line 4, column 12: defaults for an unknown layer 'Gemm'\n"
     "  operators have no defaults: give the attributes at each, or make a block"),
    # --- outputs, params, weights
    (FEATURES, "net: [{dense: 3}]\n" "outputs: {y: logits}",
     "line 4, column 14: no value is named 'logits' here\n"
     "  named so far: last, x"),
    (FEATURES, "net: [{dense: {out: 3, as: a}}]\n" "outputs: a",
     "line 4, column 10: outputs must be a mapping (key: value), not text\n"
     "  for example: outputs: [a]"),
    (FEATURES, "net: [{dense: {out: 3, as: a}}]\n" "outputs: {a}",
     "line 4, column 12: the output 'a' names no value\n"
     "  for example: outputs: {a: last}"),
    (FEATURES, "net: [{dense: {out: 3, as: a}}]\n" "outputs: [b]",
     "line 4, column 11: no value is named 'b' here\n"
     "  named so far: a, last, x"),
    (FEATURES, "net: [{dense: {out: 3, as: a}}]\n" "outputs: []",
     "line 4, column 10: a model needs at least one output\n"
     "  without `outputs` it gives what the last step gives"),
    (FEATURES, "net: [{dense: 3}]\n" "weights: model.pt",
     "line 4, column 10: weights must be a mapping (key: value), not text\n"
     "  for example: weights: {file: model.pt}"),
    (FEATURES, "net: [{dense: 3}]\n" "weights: {file: model.pt}",
     "line 4, column 17: 'model.pt' is neither .safetensors nor .npz\n"
     "  a pickle can run code, so none is read; in PyTorch: from safetensors.torch import save_file; save_file(torch.load(\"model.pt\", map_location=\"cpu\", weights_only=True), \"model.safetensors\")"),
    (FEATURES, "net: [{dense: 3}]\n" "weights: {seed: abc}",
     "line 4, column 17: seed must be a whole number, not 'abc'"),
    (FEATURES, "net: [{dense: 3}]\n" "weights: {}",
     "line 4, column 10: weights takes either 'seed' or 'file'\n"
     "  {seed: 0} or {file: model.safetensors}"),
    (FEATURES, "net: [{dense: 3}]\n" "params: [a, b]",
     "line 4, column 9: params must be a mapping (key: value), not a list\n"
     "  for example: params: {classes: 10}"),
    (FEATURES, "net: [{dense: $c}]\n" "params: {c}",
     "line 4, column 10: the param 'c' has no value\n"
     "  for example: params: {c: 10}"),
    (FEATURES, "net: [{dense: $c}]\n" "params: {c: ten}",
     "line 3, column 15: 'out' of 'dense' must be a whole number, not 'ten'\n"
     "  shapes so far: x float32[batch, 8]"),
    # --- blocks and defaults
    (FEATURES, "net: [b]\n" "blocks: {b: [relu]}",
     "line 4, column 13: block 'b' must be a mapping (key: value), not a list\n"
     "  for example: b: {body: [{conv: 64}, relu]}"),
    (FEATURES, "net: [b]\n" "blocks: [b]",
     "line 4, column 9: blocks must be a mapping (key: value), not a list\n"
     "  for example: blocks: {cbr: {body: [{conv: 64}, bn, relu]}}"),
    (FEATURES, "net: [b]\n" "blocks: {b: {steps: [relu]}}",
     "line 4, column 14: block 'b' has no 'steps': it is called `body`"),
    (FEATURES, "net: [b]\n" "blocks: {b: {args: [c], body: [{dense: $c}]}}",
     "line 4, column 20: args of block 'b' must be a mapping (key: value), not a list\n"
     "  for example: args: {c: required, k: 3}"),
    (FEATURES, "net: [b]\n" "blocks: {b: {args: {c: required}, body: [{dense: $c}]}}",
     "line 3, column 7: 'b' needs 'c'"),
    (FEATURES, "net: [{b: {d: 3}}]\n" "blocks: {b: {args: {c: required}, body: [{dense: $c}]}}",
     "line 3, column 11: 'b' needs 'c'\n"
     "line 3, column 12: 'b' has no 'd'\n"
     "  known: c"),
    (FEATURES, "net: [{b: 3}]\n" "blocks: {b: {body: [{dense: 3}]}}",
     "line 3, column 11: 'b' takes no arguments\n"
     "  write its name alone"),
    (FEATURES, "net: [b]\n" "blocks: {b: {body: [b]}}",
     "line 4, column 20 (in b > b > b > … > b > b > b): blocks and branches are nested deeper than 100\n"
     "  a block that uses itself needs an `if` that ends it\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [relu]\n" "blocks: {scan: {body: [tanh]}}",
     "line 4, column 16: block 'scan' has the name of a structure\n"
     "  choose another name"),
    (FEATURES, "net: [{b: 3}]\n" "blocks: {b: {args: {c: required}, body: [{dense: c}]}}",
     "line 4, column 50: 'out' of 'dense' must be a whole number, not 'c'\n"
     "  did you mean $c?"),
    (FEATURES, "net: [b]\n" "blocks: {b: {body: [{relu: {from: x}}]}}",
     "line 4, column 35 (in b): no value is named 'x' here\n"
     "  named so far: input, last; a block sees only what goes into it: inputs: [input, x]\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [b]\n" "blocks: {b: {inputs: x, body: [{relu: {from: x}}]}}",
     "line 4, column 22: inputs of block 'b' must be a list, not text\n"
     "  for example: inputs: [x, skip]"),
    (FEATURES, "net: [{dense: 3}]\n" "defaults: {dense: 3}",
     "line 4, column 19: defaults of 'dense' must be a mapping (key: value), not a whole number\n"
     "  for example: defaults: {dense: {out: …}}"),
    (FEATURES, "net: [{dense: 3}]\n" "defaults: {bias: false}",
     "line 4, column 12: defaults for an unknown layer 'bias'\n"
     "  defaults stand under the layer: defaults: {conv: {bias: …}}"),
    # --- inputs
    ("", "graphc: 1\n" "inputs: {x: (batch, 3)}\n" "net: [relu]",
     "line 2, column 13: '(batch, 3)' is no list: YAML has no tuples\n"
     "  a list stands in [ ]: [batch, 3]"),
    ("", "graphc: 1\n" "inputs: {x: batch}\n" "net: [relu]",
     "line 2, column 13: the shape of 'x' must be a list, not text\n"
     "  for example: [batch, 3]"),
    ("", "graphc: 1\n" "inputs: [x]\n" "net: [relu]",
     "line 2, column 9: inputs must be a mapping (key: value), not a list\n"
     "  for example: inputs: {x: [batch, 3]}"),
    ("", "graphc: 1\n" "inputs: {x}\n" "net: [relu]",
     "line 2, column 11: the shape of 'x' must be a list, not nothing\n"
     "  for example: [batch, 3]"),
    ("", "graphc: 1\n" "inputs: {x: [None, 3]}\n" "net: [relu]",
     "line 2, column 14: a dim of 'x' must be a size or the name of one, not 'None'\n"
     "  a size that is known when the model runs has a name, any you like: batch"),
    ("", "graphc: 1\n" "inputs: {x: [null, 3]}\n" "net: [relu]",
     "line 2, column 14: a dim of 'x' must be a size or the name of one, not nothing\n"
     "  a size that is known when the model runs has a name, any you like: batch"),
    ("", "graphc: 1\n" "inputs: {x: [-1, 3]}\n" "net: [relu]",
     "line 2, column 14: a dim of 'x' must be a size or the name of one, not -1\n"
     "  a size that is known when the model runs has a name, any you like: batch"),
    ("", "graphc: 1\n" "inputs: {x: [\"?\", 3]}\n" "net: [relu]",
     "line 2, column 14: a dim of 'x' must be a size or the name of one, not '?'\n"
     "  a size that is known when the model runs has a name, any you like: batch"),
    ("", "graphc: 1\n" "inputs: {x: [batch, 3.5]}\n" "net: [relu]",
     "line 2, column 21: a dim of 'x' must be a size or the name of one, not 3.5"),
    ("", "graphc: 1\n" "inputs: {x: [batch size, 3]}\n" "net: [relu]",
     "line 2, column 14: a dim of 'x' must be a size or the name of one, not 'batch size'\n"
     "  the name of a size is one word: batch_size"),
    ("", "graphc: 1\n" "inputs: {x: {dims: [2], type: float}}\n" "net: [relu]",
     "line 2, column 14: an input has no 'dims': it is called `shape`\n"
     "line 2, column 25: an input has no 'type': it is called `dtype`"),
    ("", "graphc: 1\n" "inputs: {x: {shape: [2], dtype: float}}\n" "net: [relu]",
     "line 2, column 33: unknown dtype 'float'\n"
     "  write float32"),
    ("", "graphc: 1\n" "inputs: {x: {shape: [2], dtype: int}}\n" "net: [{dense: 3}]",
     "line 2, column 33: unknown dtype 'int'\n"
     "  write int64"),
    # --- the file
    ("", "graphc: 1\n" "inputs: {}\n" "net: [relu]",
     "line 2, column 9: a model needs at least one input"),
    ("", "graphc: 1\n" "net: [relu]",
     "line 1, column 1: a model needs 'inputs'\n"
     "  for example: inputs: {x: [batch, 3]}"),
    ("", "inputs: {x: [n, 2]}\n" "net: [relu]",
     "line 1, column 1: is not a graphc model: 'graphc: 1' is missing\n"
     "  begin the file with 'graphc: 1'"),
    ("", "graphc: 2\n" "inputs: {x: [n, 2]}\n" "net: [relu]",
     "line 1, column 9: version 2 of the language is not known\n"
     "  this program reads version 1"),
    ("", "graphc: \"1\"\n" "inputs: {x: [n, 2]}\n" "net: [relu]",
     "line 1, column 9: the version must be a whole number, not text\n"
     "  write 1 without quotes"),
    ("", "# nothing",
     "is empty"),
    ("", "hello",
     "line 1, column 1: a model must be a mapping (key: value), not text\n"
     "  for example: the line 'graphc: 1', then inputs and net"),
    ("", "- graphc: 1",
     "line 1, column 1: a model must be a mapping (key: value), not a list\n"
     "  for example: the line 'graphc: 1', then inputs and net"),
    ("", "graphc: 1\n" "graphc: 1\n" "inputs: {x: [n, 2]}\n" "net: [relu]",
     "line 2, column 1: 'graphc' is given twice\n"
     "  the first is in line 1"),
    (FEATURES, "net: [{dense: 3}]\n" "output: {y: last}",
     "line 4, column 1: a model has no 'output': it is called `outputs`"),
    (FEATURES, "net: [{dense: 3}]\n" "layers: []",
     "line 4, column 1: a model has no 'layers': it is called `net`"),
    # --- words, sections and layouts from elsewhere
    (FEATURES, "net: [{dense: 8}, {concat: {from: [net.0.dense, last]}}]",
     "line 3, column 36: no value is named 'net.0.dense' here\n"
     "  that is the name of a step, not of what it gives: name its result by `as: NAME`\n"
     "  shapes so far: x float32[batch, 8] -> net.0.dense float32[batch, 8]"),
    (STEPS, "net: [{scan: {over: x, states: {h: [batch, 16]}, of: [{dense: {out: 16, as: h}}]}}]",
     "line 3, column 36: a list is a first value of numbers\n"
     "  a state of zeros says its shape: {shape: [batch, 16]}\n"
     "  shapes so far: x float32[batch, steps, 8]"),
    (FEATURES, "net: [{dense: {out: 8, act: relu}}]",
     "line 3, column 24: 'dense' has no argument 'act': it is a step of its own behind this one"),
    (IMAGE, "net: [{conv: {out: 8, act: relu}}]",
     "line 3, column 23: 'conv' has no argument 'act': it is a step of its own behind this one"),
    (FEATURES, "net: [relu]\n" "loss: mse",
     "line 4, column 1: a model has no 'loss': graphc computes what a network gives, it does not train"),
    (FEATURES, "net: [relu]\n" "optimizer: {adam: 0.1}",
     "line 4, column 1: a model has no 'optimizer': graphc computes what a network gives, it does not train"),
    (FEATURES, "net: [mse]",
     "line 3, column 7: unknown layer 'mse'\n"
     "  a loss is for training, and graphc computes what a network gives: leave it out"),
    (FEATURES, "net: [crf]",
     "line 3, column 7: unknown layer 'crf'\n"
     "  there is none: its scores are a `param`, and a recursion over the steps, as Viterbi's, is a `scan`"),
    (FEATURES, "net: [l2norm]",
     "line 3, column 7: unknown layer 'l2norm': here it is `normalize`"),
    (FEATURES, "net: [feed_forward: 8]",
     "line 3, column 7: unknown layer 'feed_forward': here it is `[{dense: …}, relu, {dense: …}]`"),
    (FEATURES, "net: [{dense: {out: 3, weights: {weight: glorot}}}]",
     "line 3, column 42: no way to make weights is named 'glorot'\n"
     "  here it is `xavier`\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "net: [{dense: {out: 3, weights: {weight: kaiming_normal}}}]",
     "line 3, column 42: no way to make weights is named 'kaiming_normal'\n"
     "  here it is `he`\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "params: {hidden: 3}\n" "net:\n" "  - dense: ${hidden}",
     "line 5, column 12: unexpected '$' in '${hidden}'\n"
     "  write $name, without braces\n"
     "  shapes so far: x float32[batch, 8]"),
    (FEATURES, "params: {hidden: 3}\n" "net:\n" "  - dense: {{hidden}}",
     "line 5, column 13: '{{hidden}}' is no value\n"
     "  write $hidden, without braces"),
    (FEATURES, "params: {hidden: 3}\n" "net:\n" "  - dense: $hiden",
     "line 5, column 12: unknown variable '$hiden': did you mean '$hidden'?"),
    (FEATURES, "params: {hidden: 3}\n" "net: [{dense: {out: ${hidden}}}]",
     "line 4, column 22: is not valid YAML: '{' is not expected behind '$'\n"
     "  write $name, without braces"),
    (FEATURES, "params: {hidden: 3}\n" "net:\n" "  - dense: '{{hidden}}'",
     "line 5, column 12: 'out' of 'dense' must be a whole number, not '{{hidden}}'\n"
     "  write $hidden, without braces"),
    (FEATURES, "params: {hidden: 3}\n" "net:\n" "  - dense: {out: {{hidden}}}",
     "line 5, column 19: '{{hidden}}' is no value\n"
     "  write $hidden, without braces"),
    (FEATURES, "net:\n" "  - dense 10",
     "line 4, column 5: unknown layer 'dense 10'\n"
     "  a ':' must follow the name: dense: 10"),
    (IMAGE, "net:\n" "  - conv {out: 16}",
     "line 4, column 5: 'conv {out' can't be the name of a step\n"
     "  a ':' and a space must follow the name: conv: {out: 16}"),
    (IMAGE, "net:\n" "  - conv:{out: 16}",
     "line 4, column 5: 'conv:{out' can't be the name of a step\n"
     "  a ':' and a space must follow the name: conv: {out: 16}"),
    (IMAGE, "net:\n" "  - conv:{out: 16, k: 3}",
     "line 4, column 21: is not valid YAML: a ':' can't stand here\n"
     "  a ':' and a space must follow the name: conv: {out: 16, k: 3}"),
    (IMAGE, "net:\n" "  - conv: {out=64, k=3}",
     "line 4, column 12: 'conv' has no 'out=64'\n"
     "  ':' stands between a name and its value: out: 64\n"
     "line 4, column 20: 'conv' has no 'k=3'\n"
     "  ':' stands between a name and its value: k: 3"),
    (IMAGE, "net:\n" "  - conv: {out = 64}",
     "line 4, column 12: 'conv' has no 'out = 64'\n"
     "  ':' stands between a name and its value: out: 64"),
    (STEPS, "net: [{LSTM: 16}]",
     "line 3, column 14: operator 'LSTM' of ONNX has its attributes in braces, not a whole number\n"
     "  the layer is `lstm: 16`"),
    (STEPS, "net: [{LSTM: {hidden: 4}}]",
     "line 3, column 15: operator 'LSTM' of ONNX has no 'hidden': the layer is `lstm: {hidden: …}`"),
    (STEPS, "net: [{GRU: 16}]",
     "line 3, column 13: operator 'GRU' of ONNX has its attributes in braces, not a whole number\n"
     "  the layer is `gru: 16`"),
    (IMAGE, "blocks: {up: {inputs: [input, skip], body: [{add: {from: [input, skip]}}]}}\n" "net: [{relu: {as: a}}, {up: {skip: a}}]",
     "line 4, column 30: 'up' has no argument 'skip': its inputs go by `from`, here [input, skip] in that order"),
    ("", "graphc: 1\n" "inputs: {image: [?, 3, 32, 32]}\n" "net: [relu]",
     "line 2, column 18: a dim of 'image' must be a size or the name of one, not a mapping\n"
     "  a size that is known when the model runs has a name, any you like: batch"),
    ("", "graphc: 1\n" "inputs: {image: [None, 3, 32, 32]}\n" "net: [relu]",
     "line 2, column 18: a dim of 'image' must be a size or the name of one, not 'None'\n"
     "  a size that is known when the model runs has a name, any you like: batch"),
    ("", "graphc: 1\n" "inputs: {x: {shape: [batch, 8, 8, 3], dtype: uint8}}\n" "net: [{scale: 1/255}]",
     "line 3, column 8: 0.00392156862745098 is a float beside an operand of uint8\n"
     "  cast the operand first, by a step before this one: - cast: float32\n"
     "  shapes so far: x uint8[batch, 8, 8, 3]"),
    ("", "graphc: 1\n" "inputs: {x: {shape: [batch, 8, 8, 3], dtype: uint8}}\n" "net: [to_nchw, {scale: 1/255}]",
     "line 3, column 17: 0.00392156862745098 is a float beside an operand of uint8\n"
     "  cast the operand first, by a step before this one: - cast: float32\n"
     "  shapes so far: x uint8[batch, 8, 8, 3] -> net.0.to_nchw uint8[batch, 3, 8, 8]"),
    ("", "graphc: 1\n" "inputs: {x: [batch, 8, 8, 3]}\n" "net: [{standardize: {mean: [0.1, 0.2, 0.3], std: [1, 1, 1]}}]",
     "line 3, column 8: standardize: mean has 3 numbers, but axis 1 of float32[batch, 8, 8, 3] has 8\n"
     "  channels are axis 1: put `to_nchw` before it\n"
     "  shapes so far: x float32[batch, 8, 8, 3]"),
    ("", "graphc: 1\n" "inputs: {x: [batch, 28, 28, 1]}\n" "net: [{conv: {out: 8, k: 3}}]",
     "line 3, column 8: Conv 'net.0.conv': axis 3 of size 1 with padding 0 + 0 is smaller than a window of 3 (kernel 3, dilation 1): the output size would not be positive\n"
     "  operand types: float32[batch, 28, 28, 1], float32[8, 28, 3, 3], float32[8]\n"
     "  channels are axis 1, [batch, channels, height, width]: `to_nchw` before it brings them there\n"
     "  shapes so far: x float32[batch, 28, 28, 1]"),
    ("", "graphc: 1\n" "inputs: {x: [batch, 28, 28, 1]}\n" "net: [{maxpool: 2}]",
     "line 3, column 8: MaxPool 'net.0.maxpool': axis 3 of size 1 with padding 0 + 0 is smaller than a window of 2 (kernel 2, dilation 1): the output size would not be positive\n"
     "  operand types: float32[batch, 28, 28, 1]\n"
     "  channels are axis 1, [batch, channels, height, width]: `to_nchw` before it brings them there\n"
     "  shapes so far: x float32[batch, 28, 28, 1]"),
    (FEATURES, "blocks: {b: {body: [{dense: 8}, b]}}\n" "net: [b]",
     "line 3, column 20 (in b > b > b > … > b > b > b): blocks and branches are nested deeper than 100\n"
     "  a block that uses itself needs an `if` that ends it\n"
     "  shapes so far: net.0.b.b.b.b.b.b.b.….b.b.b.b.b.b.b.b.b.dense float32[batch, 8] -> net.0.b.b.b.b.b.b.b.….b.b.b.b.b.b.b.b.b.dense float32[batch, 8] -> net.0.b.b.b.b.b.b.b.….b.b.b.b.b.b.b.b.b.dense float32[batch, 8] -> net.0.b.b.b.b.b.b.b.….b.b.b.b.b.b.b.b.b.dense float32[batch, 8]"),
    (FEATURES, "net: [{dense: {out: 3, bias: flase}}]",
     "line 3, column 30: 'bias' of 'dense' must be true or false, not 'flase'\n"
     "  did you mean 'false'?"),
    (FEATURES, "net: [{dense: {out: 3, bias: tru}}]",
     "line 3, column 30: 'bias' of 'dense' must be true or false, not 'tru'\n"
     "  did you mean 'true'?"),
    ("", "graphc: 1\n" "input: {x: [n, 2]}\n" "layers: [relu]",
     "line 2, column 1: a model has no 'input': it is called `inputs`\n"
     "line 3, column 1: a model has no 'layers': it is called `net`"),
    ("", "graphc: 1\n" "input: {x: [n, 2]}\n" "net: [relu]",
     "line 2, column 1: a model has no 'input': it is called `inputs`"),
    ("", "graphc: 1\n" "inputs: {x: [n, 2]}\n" "layers: [relu]\n" "output: {y: last}",
     "line 3, column 1: a model has no 'layers': it is called `net`\n"
     "line 4, column 1: a model has no 'output': it is called `outputs`"),
    # --- YAML
    (FEATURES, "net: [relu, , tanh]",
     "line 3, column 13: is not valid YAML: nothing stands before this ','"),
    (FEATURES, "net: [nn.Linear(8, 10)]",
     "line 3, column 7: the comma in 'nn.Linear(8, 10)' ends the text inside { } and [ ]\n"
     "  a layer is a name with arguments, not a call: {dense: {out: 10}}"),
    (FEATURES, "net: [{dense: ${out}}]",
     "line 3, column 16: is not valid YAML: '{' is not expected behind '$'\n"
     "  write $name, without braces"),
    ("", "graphc:1\n" "inputs: {x: [n, 2]}\n" "net: [relu]",
     "line 2, column 7: is not valid YAML: a ':' can't stand here\n"
     "  in line 1 a space must follow the ':': graphc: 1"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "\t- relu",
     "line 5, column 1: is not valid YAML: a tab can't indent\n"
     "  indent with spaces"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  -relu",
     "line 5, column 3: unknown layer '-relu'\n"
     "  a space must follow the '-': - relu"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense:10",
     "line 5, column 5: unknown layer 'dense:10'\n"
     "  a space must follow the ':': dense: 10"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense: {out:10}",
     "line 5, column 13: 'dense' has no 'out:10'\n"
     "  a space must follow the ':': out: 10"),
    ("", "graphc: 1\n" "inputs:\n" "  x:[n, 2]\n" "net:\n" "  - dense: 10",
     "line 3, column 3: inputs must be a mapping (key: value), not text\n"
     "  a space must follow the ':': x: [n, 2]"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  dense: 10\n" "  dense: 20",
     "line 6, column 3: 'dense' is given twice\n"
     "  the first is in line 5"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense: 10\n" "   - relu",
     "line 6, column 4: is not valid YAML: this line is not indented as those beside it\n"
     "  lines of one list or mapping begin in one column"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense: {out: 10\n" "  - relu",
     "line 5, column 12: is not valid YAML: the '{' that begins here is not closed\n"
     "  a '}' is missing"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2\n" "net:\n" "  - relu",
     "line 3, column 6: is not valid YAML: the '[' that begins here is not closed\n"
     "  a ']' is missing"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]]\n" "net:\n" "  - relu",
     "line 3, column 12: is not valid YAML: ']' closes nothing\n"
     "  remove it, or open it with ["),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - dense: {out: 10}}\n" "  - relu",
     "line 5, column 21: is not valid YAML: '}' closes nothing\n"
     "  remove it, or open it with {"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - let: a: b",
     "line 5, column 11: is not valid YAML: a ':' can't stand here\n"
     "  text that holds ': ' wants quotes; a mapping goes on the next line or into { }"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - let: *a",
     "line 5, column 10: alias *a has no anchor before it, or holds itself\n"
     "  text that begins with * wants quotes: '*a'"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - let: {y: \"x + 1}",
     "line 5, column 14: is not valid YAML: the quote that begins here is not closed"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - let: @x",
     "line 5, column 10: is not valid YAML: text can't begin with @\n"
     "  quote it: '@…'"),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net:\n" "  - {let: {y: where(x > 0, x, 0.0)}}",
     "line 5, column 15: the comma in 'where(x > 0, x, 0.0)' ends the text inside { } and [ ]\n"
     "  quote the text: \"where(x > 0, x, 0.0)\""),
    ("", "graphc: 1\n" "inputs:\n" "  x: [n, 2]\n" "net: <<: a",
     "line 4, column 8: is not valid YAML: a ':' can't stand here\n"
     "  text that holds ': ' wants quotes; a mapping goes on the next line or into { }"),
]  # fmt: skip


@pytest.mark.parametrize("head, text, message", MISTAKES, ids=[text for _, text, _ in MISTAKES])
def test_what_is_said(head: str, text: str, message: str):
    with pytest.raises(GraphcError) as caught:
        loads_yaml(f"{head}{text}\n", file="m")
    problems = getattr(caught.value, "problems", [caught.value])
    assert "\n".join(str(p).removeprefix("m: ") for p in problems) == message
