"""Trains the network of elnino.yaml on the months before 1980 and writes elnino.safetensors. Needs PyTorch: pip install torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

try:
    import torch
    from safetensors.torch import save_file
    from torch import nn
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: training needs PyTorch, pip install torch") from None

HERE = Path(__file__).parent
LEARNED = 12 * (1980 - 1950)
SIZES = (12, 8, 2, 8, 12)
STEPS = (5, 7, 9, 11)  # of elnino.yaml that have weights
UPDATES, NOISE, SEED = 3000, 0.1, 0


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    months = np.loadtxt(HERE / "elnino.csv", delimiter=",", skiprows=1, dtype=np.float32)[:, 1:].ravel()[:LEARNED]
    print(f"mean {months.mean():.3f}, deviation {months.std():.3f}: these stand in elnino.yaml")
    years = torch.from_numpy((months - months.mean()) / months.std()).unfold(0, 12, 1)
    layers = [nn.Linear(a, b) for a, b in zip(SIZES, SIZES[1:])]
    network = nn.Sequential(layers[0], nn.Tanh(), layers[1], nn.Tanh(), layers[2], nn.Tanh(), layers[3])
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=1e-3)
    for update in range(UPDATES):
        loss = ((network(years + NOISE * torch.randn(years.shape)) - years) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if update % 1000 == 999:
            print(f"{update + 1} updates: error {loss.item():.4f}")
    with torch.no_grad():
        print(f"largest error of a year that it has seen: {((network(years) - years) ** 2).mean(1).max().item():.3f}")
    weights = {}
    for step, layer in zip(STEPS, layers):  # a dense layer that slides is a convolution
        columns = layer.weight.detach()
        weights[f"net.{step}.conv.weight"] = (
            columns[:, None] if step == STEPS[0] else columns[:, :, None]
        ).contiguous()
        weights[f"net.{step}.conv.bias"] = layer.bias.detach()
    save_file(weights, HERE / "elnino.safetensors")


if __name__ == "__main__":
    main()
