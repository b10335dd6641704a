"""The pages of the zoo that make images, act, keep caches, or look at graphs and sets: against their formulas in NumPy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from formulas import (
    attend,
    conv,
    dense,
    gelu_tanh,
    groupnorm,
    layernorm,
    maxpool,
    relu,
    sigmoid,
    softmax,
    swish,
)
from pages import Arrays, compiled, described, page, weights

import graphc
from graphc.frontends.onnx_export import to_onnx
from graphc.types import Sym

BATCH = Sym("batch")
NODES, NEW, PAST = Sym("nodes"), Sym("new"), Sym("past")
CACHE = (BATCH, 4, NEW + PAST, 64)
RNG = np.random.default_rng
SCREEN = (8 * 8 * 4 + 1) * 32 + (16 * 32 + 1) * 64 + (9 * 64 + 1) * 64  # Mnih's convolutions
# page: parameters, shapes of the results
PAGES: dict[str, tuple[int, dict[str, tuple]]] = {
    "denoising_autoencoder": (
        784 * 500 + 784 + 500,
        {"reconstruction": (BATCH, 784), "code": (BATCH, 500), "corrupted": (BATCH, 784)},
    ),
    "sparse_autoencoder": (785 * 1000 + 784, {"reconstruction": (BATCH, 784), "code": (BATCH, 1000)}),
    "style_transfer": (1_679_235, {"painted": (BATCH, 3, 256, 256)}),  # as PyTorch's example
    "gram_style_loss": (12_944_960, dict.fromkeys(("loss", "style_loss", "content_loss"), (BATCH,))),
    "ddpm": (554_945, {"image": (BATCH, 1, 28, 28), "path": (Sym("times"), BATCH, 1, 28, 28)}),
    "realnvp": (8 * (2 * 64 + 65 * 64 + 65 * 2), {"z": (BATCH, 2), "log_density": (BATCH,)}),
    "mixture_density": (
        20 * 2 + 15 * 21,
        {"loss": (BATCH,), "drawn": (BATCH,), **dict.fromkeys(("shares", "means", "deviations"), (BATCH, 5))},
    ),
    "q_network": (1_684_128 + 18 * 513, {"values": (BATCH, 18), "action": (BATCH,)}),
    "dueling_q_network": (
        SCREEN + 2 * 3137 * 512 + 513 * 19,
        {"values": (BATCH, 18), "action": (BATCH,), "state": (BATCH, 1)},
    ),
    "policy_network": (898, {"action": (BATCH,), "log_probability": (BATCH,), "probabilities": (BATCH, 2)}),
    "decoder_cache": (
        256 * (1000 + 512 + 2) + 2 * (12 * 256 * 256 + 13 * 256),
        {"logits": (BATCH, NEW, 1000), **{f"present_{k}_{i}": CACHE for i in (0, 1) for k in ("key", "value")}},
    ),
    "mixture_of_experts": (
        64 * 8 * (1 + 2 * 256),
        {"y": (BATCH, 64), "chosen": (BATCH, 2), "shares": (BATCH, 2)},
    ),
    "graph_convolution": (1433 * 16 + 16 + 16 * 7 + 7, {"probabilities": (NODES, 7)}),
    "graph_attention": (92_373, {"probabilities": (NODES, 7)}),
    "siamese": (38_951_745, {"alike": (BATCH, 1)}),
    "skip_gram": (2 * 10_000 * 300, {"loss": (BATCH,)}),
    "deep_sets": (4 * 64 + 2 * 65 * 64 + 65, {"y": (BATCH, 1)}),
    "highway": (785 * 50 + 10 * 2 * 51 * 50 + 510, {"logits": (BATCH, 10)}),
}


@pytest.mark.parametrize("name", PAGES)
def test_parameters_and_shapes(name: str):
    count, results = PAGES[name]
    graph = described(name, count)
    assert {n: v.shape for n, v in zip(graph.output_names, graph.outputs)} == results


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return RNG(seed).normal(size=shape).astype(np.float32)


def near(found: Arrays, rtol: float = 1e-3, atol: float = 1e-4, **wanted: Any) -> None:
    """Tolerances: some layers of float32 sums in another order, against double precision."""
    for key, want in wanted.items():
        np.testing.assert_allclose(found[key], want, rtol=rtol, atol=atol, err_msg=key)


# --- autoencoders -----------------------------------------------------------------------------------------------------
def test_what_was_destroyed_is_told():
    graph, x = page("denoising_autoencoder", pixels=40, hidden=9), RNG(0).random((50, 40)).astype(np.float32) + 0.1
    w = weights(graph)
    found = compiled(graph, image=x, seed=3)
    lost = found["corrupted"] == 0
    assert (found["corrupted"][~lost] == x[~lost]).all()
    assert abs(lost.mean() - 0.25) < 3.3 * np.sqrt(0.25 * 0.75 / lost.size)
    code = sigmoid(found["corrupted"] @ w["net.w.value"].T + w["net.b.value"])
    near(found, code=code, reconstruction=sigmoid(code @ w["net.w.value"] + w["net.c.value"]))
    assert (compiled(graph, image=x, seed=4)["corrupted"] != found["corrupted"]).any()
    clean = compiled(page("denoising_autoencoder", pixels=40, hidden=9, noise=0.0), image=x, seed=3)
    np.testing.assert_array_equal(clean["corrupted"], x)


def test_only_the_largest_are_heard():
    graph, x = page("sparse_autoencoder", pixels=10, hidden=12, k=3), normal(5, 10)
    w = weights(graph)
    z = x @ w["net.w.value"].T + w["net.b.value"]
    code = np.where(z >= np.sort(z, 1)[:, -3:-2], z, 0)
    assert ((code != 0).sum(1) == 3).all()
    near(compiled(graph, image=x), code=code, reconstruction=code @ w["net.w.value"] + w["net.c.value"])


# --- style ------------------------------------------------------------------------------------------------------------
def resized(name: str, old: str, new: str, folder: Path) -> Path:
    """The page for images of another size."""
    from pages import EXAMPLES

    text = (EXAMPLES / f"{name}.yaml").read_text("utf-8")
    assert old in text
    (folder / f"{name}.yaml").write_text(text.replace(old, new), "utf-8")
    return folder / f"{name}.yaml"


def test_a_painted_image(tmp_path: Path):
    from graphc.frontends.yaml_load import load_yaml

    graph = load_yaml(resized("style_transfer", "256, 256", "16, 20", tmp_path))
    w, x = weights(graph), RNG(1).random((2, 3, 16, 20), dtype=np.float32) * 255

    def mirrored(name: str, y: np.ndarray, k: int = 3, s: int = 1) -> np.ndarray:
        return conv(w, f"{name}.conv", np.pad(y, [(0, 0), (0, 0), (k // 2,) * 2, (k // 2,) * 2], mode="reflect"), s=s)

    def norm(name: str, y: np.ndarray) -> np.ndarray:
        return groupnorm(w, f"{name}.instancenorm", y, y.shape[1])

    def layer(name: str, y: np.ndarray, k: int = 3, s: int = 1) -> np.ndarray:
        return relu(norm(name, mirrored(f"{name}.mirrored", y, k, s)))

    y = layer("net.2", layer("net.1", layer("net.0", x, 9), s=2), s=2)
    for i in range(5):
        at = f"net.3.{i}.main"
        y = y + norm(f"{at}.2", mirrored(f"{at}.1", layer(f"{at}.0", y)))
    for i in (4, 5):
        y = layer(f"net.{i}.layer", y.repeat(2, 2).repeat(2, 3))
    near(compiled(graph, rtol=1e-3, atol=1e-3, image=x), painted=mirrored("net.6", y, 9))


def test_styles_are_compared():
    graph = page("gram_style_loss", size=32, width=4)
    w = weights(graph)
    rng = RNG(2)
    image, content, style = (rng.random((2, 3, 32, 32), dtype=np.float32) for _ in range(3))
    convolutions = [k.removesuffix(".weight") for k in w if k.endswith(".weight")]
    assert len(convolutions) == 13

    def vgg(x: np.ndarray) -> list[np.ndarray]:
        """conv1_1, conv2_1 … conv5_1 behind their ReLU, and conv4_2."""
        names = iter(convolutions)
        x = (x - np.reshape([0.485, 0.456, 0.406], (3, 1, 1))) / np.reshape([0.229, 0.224, 0.225], (3, 1, 1))
        maps = []
        for stage, n in enumerate((2, 2, 4, 4, 1)):
            for i in range(n):
                x = relu(conv(w, next(names), x, 1))
                if i == 0 or (stage, i) == (3, 1):
                    maps.append(x)
            x = maxpool(x)
        return [*maps[:4], maps[5], maps[4]]

    a, b, c = vgg(image), vgg(style), vgg(content)
    style_loss = 0
    for x, y in zip(a[:5], b[:5]):
        g, h = (np.einsum("bchw,bdhw->bcd", v, v) for v in (x, y))
        n, m = x.shape[1], x.shape[2] * x.shape[3]
        style_loss = style_loss + ((g - h) ** 2).sum((1, 2)) / (4 * n**2 * m**2) / 5
    content_loss = ((a[5] - c[5]) ** 2).sum((1, 2, 3)) / 2
    found = compiled(graph, rtol=1e-3, image=image, content=content, style=style)
    near(found, style_loss=style_loss, content_loss=content_loss, loss=content_loss + 1000 * style_loss)
    same = compiled(graph, image=image, content=image, style=image)
    assert not any(v.any() for v in same.values())


# --- what draws -------------------------------------------------------------------------------------------------------
def unet(w: Arrays, image: np.ndarray, t: int) -> np.ndarray:
    """The noise that ddpm.yaml with width 8 tells."""
    rate = 10000.0 ** (-np.arange(4) / 4)
    code = np.concatenate([np.sin(t * rate), np.cos(t * rate)])[None]
    time = dense(w, "net.3.0.dense_2", swish(dense(w, "net.3.0.dense", code)))

    def layer(name: str, x: np.ndarray, s: int = 1) -> np.ndarray:
        return conv(w, f"net.3.1.{name}", x, 1, s)

    def residual(name: str, x: np.ndarray) -> np.ndarray:
        at = f"net.3.1.{name}"
        h = conv(w, f"{at}.conv", swish(groupnorm(w, f"{at}.groupnorm", x, 8)), 1)
        h = h + dense(w, f"{at}.time", swish(time))[:, :, None, None]
        h = conv(w, f"{at}.conv_2", swish(groupnorm(w, f"{at}.groupnorm_2", h, 8)), 1)
        return h + (conv(w, f"{at}.skip", x) if f"{at}.skip.weight" in w else x)

    def larger(x: np.ndarray) -> np.ndarray:
        return x.repeat(2, 2).repeat(2, 3)

    x1 = residual("residual", layer("conv", image))
    x3 = residual("residual_2", layer("conv_2", x1, 2))
    y = residual("residual_3", layer("conv_3", x3, 2))
    at = "net.3.1.attend.main"
    steps = groupnorm(w, f"{at}.0.groupnorm", y, 8).reshape(len(y), 16, 49).swapaxes(1, 2)
    q, k, v = np.split(dense(w, f"{at}.3.attention.in", steps), 3, 2)
    y = y + dense(w, f"{at}.3.attention.out", attend(q, k, v, 1)).swapaxes(1, 2).reshape(y.shape)
    y = layer("conv_4", larger(residual("residual_4", y)))
    y = layer("conv_5", larger(residual("residual_5", np.concatenate([y, x3], 1))))
    y = residual("residual_6", np.concatenate([y, x1], 1))
    return layer("conv_6", swish(groupnorm(w, "net.3.1.groupnorm", y, 8)))


def test_diffusion_step_by_step():
    """Each image of the path, less the mean that follows from the one before, is noise of the step's variance."""
    graph = page("ddpm", width=8)
    w, times, image = weights(graph), np.array([999, 500, 1, 0]), normal(3, 1, 28, 28)
    # the reference sums in another order, and each step multiplies what differs
    found = compiled(graph, rtol=1e-2, atol=1e-2, image=image, times=times, seed=1)
    np.testing.assert_array_equal(found["image"], found["path"][-1])
    betas = np.linspace(1e-4, 0.02, 1000)
    kept, drawn = np.cumprod(1 - betas), []
    for t, before, after in zip(times, [image, *found["path"]], found["path"]):
        mean = (before - betas[t] / np.sqrt(1 - kept[t]) * unet(w, before.astype(np.float64), t)) / np.sqrt(
            1 - betas[t]
        )
        if t:
            drawn.append((after - mean) / np.sqrt(betas[t]))
        else:
            np.testing.assert_allclose(after, mean, rtol=1e-3, atol=1e-3, err_msg="the last step draws nothing")
    for noise in drawn:
        assert abs(noise.mean()) < 3.3 / np.sqrt(noise.size) and abs(noise.var() - 1) < 3.3 * np.sqrt(2 / noise.size)
    alike = np.corrcoef([noise.ravel() for noise in drawn])[np.triu_indices(len(drawn), 1)]
    assert (abs(alike) < 3.5 / np.sqrt(image.size)).all(), "each step draws anew"
    other = graphc.compile(graph).run({"image": image, "times": times, "seed": np.array(2)})["path"]
    assert (other != found["path"]).mean() > 0.9


def test_a_flow_can_be_undone_and_its_density_is_that_of_a_change_of_variables():
    graph, x = page("realnvp", layers=3, half=2, hidden=5), normal(4, 4)
    w = weights(graph)
    names = [k.removesuffix(".weight") for k in w if k.endswith(".weight")]
    layers = [names[3 * i : 3 * i + 3] for i in range(3)]

    def scales(i: int, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raw, t = np.split(dense(w, layers[i][2], relu(dense(w, layers[i][1], relu(dense(w, layers[i][0], a))))), 2, -1)
        return np.tanh(raw), t

    def forward(x: np.ndarray) -> np.ndarray:
        for i in range(3):
            a, b = np.split(x, 2, -1)
            s, t = scales(i, a)
            x = np.concatenate([b * np.exp(s) + t, a], -1)
        return x

    found = compiled(graph, x=x)
    z = forward(x.astype(np.float64))
    near(found, z=z)
    y = found["z"].astype(np.float64)
    for i in reversed(range(3)):
        b, a = np.split(y, 2, -1)
        s, t = scales(i, a)
        y = np.concatenate([a, (b - t) * np.exp(-s)], -1)
    np.testing.assert_allclose(y, x, rtol=1e-3, atol=1e-4)
    h = 1e-6 * np.eye(4)
    jacobian = (forward(x[:, None] + h) - forward(x[:, None] - h)) / 2e-6
    want = -(z**2).sum(1) / 2 - 2 * np.log(2 * np.pi) + np.log(abs(np.linalg.det(jacobian)))
    near(found, log_density=want)


def test_a_mixture_of_gaussians():
    graph, x, y = page("mixture_density"), np.repeat(normal(1, 1), 3000, 0), normal(3000, 1, seed=1)
    w = weights(graph)
    names = [k.removesuffix(".weight") for k in w if k.endswith(".weight")]
    scores, means, logs = np.split(dense(w, names[1], np.tanh(dense(w, names[0], x))), 3, 1)
    shares, stds = softmax(scores), np.exp(logs)
    p = (shares * np.exp(-(((y - means) / stds) ** 2) / 2) / (stds * np.sqrt(2 * np.pi))).sum(1)
    found = compiled(graph, x=x, y=y, seed=5)
    near(found, shares=shares, means=means, deviations=stds, loss=-np.log(p))
    mean = (shares * means).sum(1)[0]
    variance = (shares * (stds**2 + means**2)).sum(1)[0] - mean**2
    assert abs(found["drawn"].mean() - mean) < 3.5 * np.sqrt(variance / 3000)
    assert abs(found["drawn"].var() / variance - 1) < 0.15


# --- what acts --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["q_network", "dueling_q_network"])
def test_what_actions_are_worth(name: str):
    graph, screens = page(name, actions=4), RNG(3).integers(0, 256, (2, 4, 84, 84)).astype(np.uint8)
    w = weights(graph)
    a, b, c, *rest = [k.removesuffix(".weight") for k in w if k.endswith(".weight")]
    x = relu(conv(w, c, relu(conv(w, b, relu(conv(w, a, screens / 255.0, s=4)), s=2)))).reshape(2, -1)
    assert x.shape == (2, 3136)
    if name == "q_network":
        values = dense(w, rest[1], relu(dense(w, rest[0], x)))
    else:
        v, advantage = (dense(w, out, relu(dense(w, hidden, x))) for hidden, out in (rest[:2], rest[2:]))
        values = v + advantage - advantage.mean(1, keepdims=True)
    found = compiled(graph, screens=screens)
    near(found, values=values)
    assert found["action"].tolist() == values.argmax(1).tolist()
    if name != "q_network":
        np.testing.assert_allclose(found["values"].mean(1), found["state"][:, 0], rtol=1e-4, atol=1e-5)


def test_actions_are_drawn_as_the_policy_says():
    graph, state = page("policy_network", actions=3), np.repeat(normal(1, 4, seed=4), 6000, 0)
    w = weights(graph)
    a, b = (k.removesuffix(".weight") for k in w if k.endswith(".weight"))
    p = softmax(dense(w, b, relu(dense(w, a, state))))
    found = compiled(graph, state=state, seed=7)
    near(found, probabilities=p, log_probability=np.log(p[np.arange(6000), found["action"]]))
    counts = np.bincount(found["action"], minlength=3)
    assert ((counts - 6000 * p[0]) ** 2 / (6000 * p[0])).sum() < 13.8  # of 2 degrees of freedom: one seed in a thousand


# --- caches -----------------------------------------------------------------------------------------------------------
def test_a_cache_of_keys_and_values():
    """One token after the other, in a session, gives what the formulas give for all at once; so does a step with several."""
    params = {"width": 8, "heads": 2, "vocab": 11, "context": 16}
    graph, tokens = page("decoder_cache", **params), RNG(5).integers(0, 11, (2, 7))
    w = weights(graph)
    x = w["words.weight"][tokens] + w["net.positions.weight"][:7]
    for at in ("net.7", "net.8"):
        q, k, v = np.split(dense(w, f"{at}.dense", layernorm(w, f"{at}.layernorm", x)), 3, 2)
        x = x + dense(w, f"{at}.dense_2", attend(q, k, v, 2, causal=True))
        hidden = gelu_tanh(dense(w, f"{at}.dense_3", layernorm(w, f"{at}.layernorm_2", x)))
        x = x + dense(w, f"{at}.dense_4", hidden)
    logits = layernorm(w, "net.9.layernorm", x) @ w["words.weight"].T
    empty = {f"past_{k}_{i}": np.zeros((2, 2, 0, 4)) for k in ("key", "value") for i in (0, 1)}
    first = compiled(graph, tokens=tokens[:, :4], **empty)
    near(first, logits=logits[:, :4])
    more = compiled(
        graph, tokens=tokens[:, 4:], **{k.replace("present", "past"): first[k] for k in first if k != "logits"}
    )
    near(more, logits=logits[:, 4:])
    states = {k: k.replace("past", "present") for k in empty}
    for model in (
        graphc.compile(graph),  # by their names
        graphc.compile(graph, states=states),
        graphc.compile(to_onnx(graph)),
    ):
        session = model.session()
        for t in range(7):
            np.testing.assert_allclose(session(tokens[:, t : t + 1]), logits[:, t : t + 1], rtol=1e-3, atol=1e-4)
        assert session.state["past_key_0"].shape == (2, 2, 7, 4)


# --- experts, graphs, sets --------------------------------------------------------------------------------------------
def test_two_experts_are_asked():
    graph, x = page("mixture_of_experts", width=5, hidden=6, experts=4), normal(7, 5)
    w = weights(graph)
    scores, want = dense(w, "net.gate", x), np.zeros((7, 5))
    for row, s in enumerate(scores):
        best = np.argsort(-s)[:2]
        for expert, share in zip(best, softmax(s[best])):
            want[row] += share * (relu(x[row] @ w["net.up.value"][expert]) @ w["net.down.value"][expert])
    found = compiled(graph, x=x)
    near(found, y=want)
    np.testing.assert_array_equal(found["chosen"], np.argsort(-scores, 1)[:, :2])
    assert len(np.unique(found["chosen"])) > 2


def neighbours(n: int) -> np.ndarray:
    a = np.triu(RNG(6).random((n, n)) < 0.3, 1)
    a[:, -1] = False  # one node is alone
    return (a | a.T).astype(np.float32)


def test_graph_convolutions():
    graph, x, a = page("graph_convolution", features=6, hidden=5, classes=3), normal(9, 6), neighbours(9)
    w = weights(graph)
    linked = a + np.eye(9)
    d = np.diag(linked.sum(1) ** -0.5)
    near_ = d @ linked @ d
    (b, c), (u, v) = ([k for k in w if k.endswith(end)] for end in ("weight", "bias.value"))
    hidden = relu(near_ @ x @ w[b].T + w[u])
    found = compiled(graph, x=x, adjacency=a)
    near(found, probabilities=softmax(near_ @ hidden @ w[c].T + w[v]))
    y = np.concatenate([x[:-1], x[-1:] + 9])
    other = compiled(graph, x=y, adjacency=a)["probabilities"]
    np.testing.assert_array_equal(other[:-1], found["probabilities"][:-1], "who is alone tells nobody")


def test_graph_attention():
    graph, x, a = page("graph_attention", features=6, heads=2, hidden=4, classes=3), normal(9, 6), neighbours(9)
    w = weights(graph)
    linked = a + np.eye(9) > 0

    def layer(at: str, x: np.ndarray, heads: int) -> np.ndarray:
        out = []
        for h, said in enumerate(np.split(dense(w, f"{at}.dense", x), heads, 1)):
            scores = said @ w[f"{at}.own.value"][h] + (said @ w[f"{at}.others.value"][h]).T
            scores = np.where(scores > 0, scores, 0.2 * scores)
            out.append(softmax(np.where(linked, scores, -np.inf)) @ said)
        return np.concatenate(out, 1) + w[f"{at}.bias.value"]

    first, second = dict.fromkeys(k.split(".dense")[0] for k in w if k.endswith("dense.weight"))
    y = layer(first, x, 2)
    y = layer(second, np.where(y > 0, y, np.exp(np.minimum(y, 0)) - 1), 1)
    near(compiled(graph, x=x, adjacency=a), probabilities=softmax(y))


def test_twins():
    graph = page("siamese", size=76, width=3, code=7)
    w, (left, right) = weights(graph), normal(2, 3, 1, 76, 76)

    def twin(x: np.ndarray) -> np.ndarray:
        for i, at in enumerate(("conv", "conv_2", "conv_3", "conv_4")):
            x = relu(conv(w, f"twin.{at}", x))
            x = maxpool(x) if i < 3 else x
        return sigmoid(dense(w, "twin.dense", x.reshape(3, -1)))

    found = compiled(graph, left=left, right=right)
    out = [k.removesuffix(".weight") for k in w if k.endswith("dense.weight") and not k.startswith("twin")][0]
    near(found, alike=sigmoid(dense(w, out, abs(twin(left) - twin(right)))))
    np.testing.assert_array_equal(compiled(graph, left=right, right=left)["alike"], found["alike"])


def test_skip_gram():
    graph, rng = page("skip_gram", vocab=20, dim=6), RNG(7)
    w = weights(graph)
    word, other, negative = rng.integers(0, 20, 5), rng.integers(0, 20, 5), rng.integers(0, 20, (5, 4))
    v, u, n = w["net.words.weight"][word], w["contexts.weight"][other], w["contexts.weight"][negative]
    loss = -np.log(sigmoid((u * v).sum(1))) - np.log(sigmoid(-(n * v[:, None]).sum(2))).sum(1)
    near(compiled(graph, word=word, near=other, negative=negative), loss=loss)


def test_the_order_of_a_set_says_nothing():
    graph, x = page("deep_sets", hidden=6), normal(2, 5, 3)
    w = weights(graph)
    a, b, c, d = (k.removesuffix(".weight") for k in w if k.endswith(".weight"))
    codes = dense(w, b, relu(dense(w, a, x))).sum(1)
    found = compiled(graph, set=x)
    near(found, y=dense(w, d, relu(dense(w, c, codes))))
    near(compiled(graph, set=x[:, ::-1]), rtol=1e-4, y=found["y"])


def test_gates_of_a_highway():
    graph, x = page("highway", pixels=6, width=5, layers=3), normal(4, 6)
    w = weights(graph)
    y = dense(w, "net.0.dense", x)
    for i in range(3):
        t = sigmoid(dense(w, f"net.1.{i}.gate", y))
        y = relu(dense(w, f"net.1.{i}.change", y)) * t + y * (1 - t)
    near(compiled(graph, image=x), logits=dense(w, "net.2.dense", y))
