"""Trains the network of digits.yaml and writes digits.safetensors. Needs PyTorch: pip install torch.

The modules have the names of the steps in digits.yaml, so that the state dict is the weight file.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

try:
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from torch.nn import functional as F
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: training needs PyTorch, pip install torch") from None

HERE = Path(__file__).parent
EPOCHS = 60
SEED = 0


def cbr(inputs: int, outputs: int) -> nn.ModuleDict:
    """Convolution and batch norm of the block `cbr`."""
    return nn.ModuleDict({"conv": nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), "bn": nn.BatchNorm2d(outputs)})


class Digits(nn.Module):
    """The network of digits.yaml, up to the logits."""

    def __init__(self) -> None:
        super().__init__()
        dense = {"8": nn.ModuleDict({"dense": nn.Linear(256, 64)}), "10": nn.ModuleDict({"dense": nn.Linear(64, 10)})}
        self.net = nn.ModuleDict({"1": cbr(1, 16), "2": cbr(16, 32), "4": cbr(32, 64), **dense})

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.net[name]["bn"](self.net[name]["conv"](x)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Images [batch, 1, 8, 8] with values from 0 to 16 -> logits [batch, 10]."""
        x = F.max_pool2d(self.block("2", self.block("1", x / 16)), 2)
        x = F.max_pool2d(self.block("4", x), 2).flatten(1)
        x = F.dropout(x, 0.5, self.training)
        return self.net["10"]["dense"](F.relu(self.net["8"]["dense"](x)))


def shifted(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """The batch, moved by up to one pixel in each direction."""
    dy, dx = torch.randint(0, 3, (2,), generator=generator).tolist()
    return F.pad(x, (1, 1, 1, 1))[:, :, dy : dy + 8, dx : dx + 8]


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(SEED)
    data = np.load(HERE / "digits.npz")
    x, y = torch.from_numpy(data["train_x"]).float()[:, None], torch.from_numpy(data["train_y"]).long()
    model = Digits()
    steps = EPOCHS * -(-len(x) // 32)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        total = 0.0
        for index in torch.randperm(len(x), generator=generator).split(32):
            loss = F.cross_entropy(model(shifted(x[index], generator)), y[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(index)
        if epoch % 10 == 9:
            print(f"epoch {epoch + 1}: loss {total / len(x):.4f}")
    model.eval()
    with torch.no_grad():
        found = model(torch.from_numpy(data["test_x"]).float()[:, None]).argmax(1).numpy()
    print(f"test accuracy {100 * (found == data['test_y']).mean():.2f} %")
    weights = {k: v.contiguous() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}
    save_file(weights, HERE / "digits.safetensors")


if __name__ == "__main__":
    main()
