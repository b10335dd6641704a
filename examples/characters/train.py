"""Trains the network of characters.yaml and writes characters.safetensors and heldout.txt. Needs PyTorch: pip install torch.

The text is the documentation of Python that comes with Python (`pydoc_data.topics`, what `help()` shows); every tenth topic is
held out. Other versions of Python have other texts, and give other weights.
"""

from __future__ import annotations

import math
from pathlib import Path
from pydoc_data.topics import topics

try:
    import torch
    from safetensors.torch import save_file
    from torch import nn
    from torch.nn import functional as F
except ModuleNotFoundError as error:
    raise SystemExit(f"{error}: training needs PyTorch, pip install torch") from None

HERE = Path(__file__).parent
CHARACTERS = "\n" + "".join(map(chr, range(32, 127)))
HIDDEN, STEPS, ROWS, UPDATES, DROPOUT, SEED = 96, 128, 64, 5000, 0.2, 0


class Characters(nn.Module):
    """The network of characters.yaml."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(len(CHARACTERS), 32)
        self.units = nn.GRU(32, HIDDEN, batch_first=True)
        self.guess = nn.Linear(HIDDEN, len(CHARACTERS))

    def forward(self, ids: torch.Tensor, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Numbers of characters [rows, steps], state [1, rows, 96] -> logits [rows, steps, 96], state."""
        hidden, state = self.units(F.dropout(self.table(ids), DROPOUT, self.training), state)
        return self.guess(F.dropout(hidden, DROPOUT, self.training)), state

    def weights(self) -> dict[str, torch.Tensor]:
        """By the names that characters.yaml gives them; the gates are in PyTorch's order there, too."""
        cell = {
            f"net.1.{name}.{kind}": getattr(self.units, f"{kind}_{suffix}_l0")
            for name, suffix in (("input", "ih"), ("memory", "hh"))
            for kind in ("weight", "bias")
        }
        rest = {"net.characters.weight": self.table.weight, "net.guess.weight": self.guess.weight}
        return {k: v.detach().contiguous() for k, v in (cell | rest | {"net.guess.bias": self.guess.bias}).items()}


def encoded(text: str) -> torch.Tensor:
    """Numbers of the characters that the network knows; the others are left out."""
    known = {c: i for i, c in enumerate(CHARACTERS)}
    return torch.tensor([known[c] for c in text if c in known])


def bits(model: Characters, ids: torch.Tensor) -> float:
    """Per character, of a text that is read from its beginning."""
    model.eval()
    with torch.no_grad():
        logits, _ = model(ids[None, :-1], torch.zeros(1, 1, HIDDEN))
        return F.cross_entropy(logits[0], ids[1:]).item() / math.log(2)


def main() -> None:
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    names = sorted(topics)
    heldout = "\n\n".join(topics[n] for n in names[::10])
    read = encoded("\n\n".join(topics[n] for i, n in enumerate(names) if i % 10))
    unseen = encoded(heldout)
    (HERE / "heldout.txt").write_text("".join(CHARACTERS[i] for i in unseen), encoding="ascii")
    print(f"{len(read):,} characters to learn from, {len(unseen):,} held out")

    model, generator = Characters(), torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=UPDATES, pct_start=0.1)
    state, places, total = torch.zeros(1, ROWS, HIDDEN), torch.zeros(ROWS, dtype=torch.long), 0.0
    for update in range(UPDATES):
        if update % 64 == 0:  # rows go on where they were, and begin anew elsewhere now and then
            places = torch.randint(0, len(read) - 64 * STEPS - 1, (ROWS,), generator=generator)
            state = torch.zeros(1, ROWS, HIDDEN)
        rows = torch.stack([read[p : p + STEPS + 1] for p in places.tolist()])
        model.train()
        logits, state = model(rows[:, :-1], state.detach())
        loss = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        places = places + STEPS
        total += loss.item() / math.log(2)
        if update % 500 == 499:
            print(
                f"{update + 1} updates: {total / 500:.3f} bits a character; held out {bits(model, unseen):.3f}",
                flush=True,
            )
            total = 0.0
            save_file(model.weights(), HERE / "characters.safetensors")


if __name__ == "__main__":
    main()
