# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # A line and a border: the smallest networks
#
# One linear layer fits a line, and is held against the least squares that algebra gives. A net
# n-8-1 of Tanh and Sigmoid tells two Gaussians apart, and is held against the best rule there is,
# which is known here. PyLDL reaches 99.90 % on two Gaussians of its own.

# %%
import os

import numpy as np
from matplotlib import pyplot as plt

import ldl
from ldl import nn, optim

FAST = "LDL_FAST" in os.environ
SEEDS = range(1 if FAST else 5)

# %% [markdown]
# ## Linear regression
#
# $y = 2x - 1 + ε$, ε normal with σ = 0.5. The whole of the data is one batch, so 500 epochs are 500
# steps of plain descent. The loss is a parabola in two numbers, and descent ends at its bottom:
# 1.1e-15 from the exact answer.

# %%
chance = np.random.default_rng(0)
x = chance.uniform(-2, 2, (200, 1))
y = 2 * x - 1 + 0.5 * chance.standard_normal(x.shape)
ldl.manual_seed(0)
line = nn.Sequential(nn.Linear(1, 1)).to(dtype="float64")
history = ldl.fit(line, (x, y), nn.MSELoss(), optim.SGD(line, lr=0.1), epochs=500, batch_size=200)
found = np.array([line[0].weight.data[0, 0], line[0].bias.data[0]])
exact = np.linalg.lstsq(np.c_[x, np.ones_like(x)], y, rcond=None)[0][:, 0]
print(
    f"descent: y = {found[0]:.4f} x {found[1]:+.4f}; least squares: {exact[0]:.4f}, {exact[1]:+.4f}"
)
print(f"apart by {np.abs(found - exact).max():.1e}")

# %%
figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
left.plot(x, y, ".", color="0.6")
ends = np.array([[-2.0], [2.0]])
left.plot(ends, line.predict(ends), label=f"y = {found[0]:.2f} x - {-found[1]:.2f}")
left.set(xlabel="x", ylabel="y", title="200 points and the line")
left.legend()
losses = [row["loss"] for row in history.rows]
right.semilogx(np.arange(1, 501), losses)
right.set(xlabel="step", ylabel="squared error", title="Descent")
plt.show()

# %% [markdown]
# ## Two Gaussians
#
# Centres (-2.2, -2.2) and (2.2, 2.2), each of unit variance: the best rule looks at the sign of
# $x_1 + x_2$, and is right Φ(2.2 √2) = 99.91 % of the time. 1,000 points to learn from, 10,000 held
# out, five seeds of data and weights. Measured, mean and standard deviation: 99.89 % ± 0.04 %,
# where the best rule has 99.91 % of the same points.


# %%
def clouds(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """n points (n, 2) and which cloud each is of (n, 1)."""
    chance = np.random.default_rng(seed)
    label = chance.integers(0, 2, (n, 1))
    points = 2.2 * (2 * label - 1) + chance.standard_normal((n, 2))
    return points.astype("float32"), label.astype("float32")


own, best = [], []
for seed in SEEDS:
    ldl.manual_seed(seed)
    net = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1), nn.Sigmoid())
    adam = optim.Adam(net, lr=1e-2)
    ldl.fit(net, clouds(1000, seed), nn.BCELoss(), adam, epochs=20, seed=seed)
    points, label = clouds(10_000, 100 + seed)
    own.append(((net.predict(points) > 0.5) == label).mean())
    best.append(((points.sum(1, keepdims=True) > 0) == label).mean())
print(f"net: {np.mean(own):.2%} ± {np.std(own):.2%} right; best rule: {np.mean(best):.2%}")

# %%
side = np.linspace(-6, 6, 121, dtype="float32")
grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)
figure, ax = plt.subplots(figsize=(5.5, 4.5), layout="constrained")
said = net.predict(grid).reshape(121, 121)
shades = ax.pcolormesh(side, side, said, cmap="RdBu_r", vmin=-0.25, vmax=1.25)
figure.colorbar(shades, label="said: chance of the upper cloud").ax.set_ylim(0, 1)
ax.scatter(
    *points[:1000].T, c=label[:1000, 0], cmap="RdBu_r", s=10, edgecolors="white", linewidths=0.4
)
ax.plot(side, -side, "k--", linewidth=1, label="the best border")
ax.set(xlabel="$x_1$", ylabel="$x_2$", xlim=(-6, 6), ylim=(-6, 6), title="Two Gaussians")
ax.legend()
plt.show()
