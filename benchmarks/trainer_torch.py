"""The peer in ``benchmarks/trainer.py``: a model of nanoGPT's kind on torch, as a worker.

GPT-2's decoder as nanoGPT trains it: LayerNorm without bias, one product for queries, keys and
values, ``scaled_dot_product_attention``, a GELU block four times as wide, learned positions, the
embedding shared with the output layer, no dropout; AdamW with weight decay on matrices, gradients
clipped at a norm of 1. Needs torch and nothing of this project but ``stepping``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from stepping import keep_to_cores, serve

WIDTH, LAYERS, HEADS, LENGTH, VOCABULARY, BATCH, THREADS = map(int, sys.argv[1:8])
keep_to_cores(THREADS)

import torch  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class Block(nn.Module):
    """Attention and a feed-forward block, each behind its norm and beside the residual."""

    def __init__(self) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(WIDTH, bias=False)
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.before_ffn = nn.LayerNorm(WIDTH, bias=False)
        self.up = nn.Linear(WIDTH, 4 * WIDTH, bias=False)
        self.down = nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, _ = x.shape
        parts = self.qkv(self.before_attention(x)).split(WIDTH, dim=2)
        q, k, v = (p.view(batch, tokens, HEADS, -1).transpose(1, 2) for p in parts)
        found = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(found.transpose(1, 2).reshape(batch, tokens, WIDTH))
        return x + self.down(F.gelu(self.up(self.before_ffn(x))))


class Model(nn.Module):
    """Tokens to the mean cross-entropy of what follows them."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.places = nn.Embedding(LENGTH, WIDTH)
        self.blocks = nn.ModuleList([Block() for _ in range(LAYERS)])
        self.norm = nn.LayerNorm(WIDTH, bias=False)
        for weight in self.parameters():
            if weight.dim() == 2:
                nn.init.normal_(weight, std=0.02)

    def forward(self, tokens: Tensor, following: Tensor) -> Tensor:
        x = self.embedding(tokens) + self.places.weight
        for block in self.blocks:
            x = block(x)
        logits = F.linear(self.norm(x), self.embedding.weight)
        return F.cross_entropy(logits.view(-1, VOCABULARY), following.reshape(-1))


def main() -> None:
    torch.set_num_threads(THREADS)
    torch.manual_seed(0)
    model = Model()
    matrices = [p for p in model.parameters() if p.dim() == 2]
    vectors = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=3e-4, betas=(0.9, 0.95))

    def step() -> float:
        tokens = torch.randint(VOCABULARY, (BATCH, LENGTH + 1))
        loss = model(tokens[:, :-1], tokens[:, 1:])
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    print(f"torch {torch.__version__}", file=sys.stderr)
    serve(step)


if __name__ == "__main__":
    main()
