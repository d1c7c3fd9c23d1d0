# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # A small transformer learns to write
#
# Two causal transformer blocks learn characters of Shakespeare's plays, each character from the 64
# before it. What it writes before and after is shown, and the same net in PyTorch, from the same
# weights and given the same batches, has the same loss at every step. (PyTorch must be installed.)

# %%
import os
from pathlib import Path
from time import perf_counter

import numpy as np
from matplotlib import pyplot as plt

import ldl
from ldl import nn, optim

FAST = "LDL_FAST" in os.environ
STEPS, LENGTH, BATCH, WIDTH, HEADS, BLOCKS = (40 if FAST else 2000), 64, 32, 128, 4, 2

here = Path(__file__).parent if "__file__" in globals() else Path()
text = (here / "data" / "shakespeare.txt").read_text()
letters = sorted(set(text))
tokens = np.searchsorted(letters, list(text)).astype(np.int64)
held_out = len(tokens) // 10
train, test = tokens[:-held_out], tokens[-held_out:]
print(f"{len(text):,} characters, {len(letters)} of them different")


# %% [markdown]
# ## The net
#
# Embedding and places, blocks of attention and two dense layers, and a score for each character.


# %%
def net() -> nn.Sequential:
    """The model, with the same first weights whenever it is built."""
    ldl.manual_seed(0)
    blocks = [nn.TransformerBlock(WIDTH, HEADS, causal=True) for _ in range(BLOCKS)]
    return nn.Sequential(
        nn.Embedding(len(letters), WIDTH),
        nn.PositionalEncoding(WIDTH, LENGTH),
        *blocks,
        nn.LayerNorm(WIDTH),
        nn.Linear(WIDTH, len(letters)),
    )


def batches(steps: int):
    """Windows of the text that begin anywhere, and each one's next characters."""
    chance = np.random.default_rng(1)
    for starts in chance.integers(0, len(train) - LENGTH - 1, (steps, BATCH)):
        window = train[starts[:, None] + np.arange(LENGTH + 1)]
        yield window[:, :-1], window[:, 1:]


def write(model: nn.Module, start: str, length: int, temperature: float = 0.8) -> str:
    """So many characters more, each drawn from softmax(logits / temperature)."""
    chance, written = np.random.default_rng(2), list(np.searchsorted(letters, list(start)))
    for _ in range(length):
        seen = np.asarray(written[-LENGTH:])[None]
        logits = model.predict(seen)[0, -1].astype(np.float64) / temperature
        chances = np.exp(logits - logits.max())
        written.append(chance.choice(len(letters), p=chances / chances.sum()))
    return "".join(letters[i] for i in written)


model = net()
print(f"{sum(p.size for p in model.parameters()):,} parameters")
print(write(model, "ROMEO:\n", 60 if FAST else 200))

# %% [markdown]
# ## Training
#
# The whole step, attention and update included, is one recorded program.

# %%
step = ldl.TrainStep(model, nn.CrossEntropyLoss(), optim.Adam(model, lr=1e-3))
model.train()
losses = [float(step(x, y)) for x, y in batches(STEPS)]
model.eval()
windows = np.lib.stride_tricks.sliding_window_view(test, LENGTH + 1)[::LENGTH].copy()
scores = ldl.evaluate(model, (windows[:, :-1], windows[:, 1:]), nn.CrossEntropyLoss())
print(f"after {STEPS} steps, held out: {scores['loss']:.3f} nats a character")
print(write(model, "ROMEO:\n", 60 if FAST else 500))


# %% [markdown]
# ## The same net in PyTorch
#
# Built of PyTorch's own layers, with ldl's first weights, the same Adam and the same batches.


# %%
def twin(model: nn.Sequential):
    """The net of PyTorch's layers, and its weights."""
    import torch
    from torch.nn import TransformerEncoderLayer

    def put(into: torch.Tensor, array: np.ndarray) -> None:
        with torch.no_grad():
            into.copy_(torch.tensor(array))

    embedding = torch.nn.Embedding(len(letters), WIDTH)
    put(embedding.weight, model[0].weight.data)
    places = torch.tensor(nn.Sequential(model[1]).predict(np.zeros((1, LENGTH, WIDTH), "float32")))
    blocks = torch.nn.ModuleList()
    for own in model[2 : 2 + BLOCKS]:
        block = TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH, 0.0, "gelu", batch_first=True, norm_first=True
        )
        up, down = own.mlp[0], own.mlp[2]
        put(block.self_attn.in_proj_weight, own.attention.qkv.weight.data.T)
        put(block.self_attn.in_proj_bias, own.attention.qkv.bias.data)
        for linear, ours in (
            (block.self_attn.out_proj, own.attention.out),
            (block.linear1, up),
            (block.linear2, down),
        ):
            put(linear.weight, ours.weight.data.T)
            put(linear.bias, ours.bias.data)
        blocks.append(block)
    norm, out = torch.nn.LayerNorm(WIDTH), torch.nn.Linear(WIDTH, len(letters))
    put(out.weight, model[-1].weight.data.T)
    put(out.bias, model[-1].bias.data)
    mask = torch.nn.Transformer.generate_square_subsequent_mask(LENGTH)

    def logits(x: torch.Tensor) -> torch.Tensor:
        h = embedding(x) + places
        for block in blocks:
            h = block(h, src_mask=mask, is_causal=True)
        return out(norm(h))

    return logits, [p for part in (embedding, blocks, norm, out) for p in part.parameters()]


def step_of_pytorch():
    """A function that takes a step of PyTorch's net and gives its loss."""
    import torch

    logits, weights = twin(net())
    adam = torch.optim.Adam(weights, lr=1e-3)

    def step(x: np.ndarray, y: np.ndarray) -> float:
        adam.zero_grad()
        loss = torch.nn.functional.cross_entropy(
            logits(torch.tensor(x)).transpose(1, 2), torch.tensor(y)
        )
        loss.backward()
        adam.step()
        return loss.item()

    return step


their_step = step_of_pytorch()
theirs = [their_step(x, y) for x, y in batches(STEPS)]
apart = np.abs(np.array(losses) / theirs - 1)
for upto in (10, 100, STEPS):
    print(f"first {min(upto, STEPS)} steps: losses at most {apart[:upto].max():.1e} apart")

# %%
figure, ax = plt.subplots(figsize=(7, 4), layout="constrained")
every = max(STEPS // 100, 1)
for name, curve, style in (("ldl", losses, "-"), ("PyTorch", theirs, "--")):
    mean = np.array(curve)[: STEPS // every * every].reshape(-1, every).mean(1)
    ax.plot(np.arange(1, len(mean) + 1) * every, mean, style, label=name)
ax.set(xlabel="step", ylabel="cross-entropy, nats a character", title="The same net, twice")
ax.legend()
plt.show()

# %% [markdown]
# The time of a step, the two in turn, the least of so many, here with one thread each. PyTorch runs
# layer by layer, as most use it.

# %%
model.train()
seconds = []
for x, y in batches(5 if FAST else 50):
    marks = [perf_counter()]
    for take in (step, their_step):
        take(x, y)
        marks.append(perf_counter())
    seconds.append(np.diff(marks))
model.eval()
own, other = 1e3 * np.min(seconds, 0)
print(
    f"{len(seconds)} steps: ldl {own:.1f} ms, PyTorch {other:.1f} ms, {other / own:.2f} times ldl's"
)
