# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
# ---

# %% [markdown]
# # One model, every backend there is
#
# The layers are written once, in the namespace of the backend that a model stands on. Here the same
# training runs on each backend that this machine has: from one seed weights, shuffles, noise and
# dropout are the same everywhere, so that the curves lie on each other. On NumPy it also runs layer
# by layer (`record=False`), where nothing is compiled. A backend that cannot run here is named, and
# why. Measured without a GPU: losses 9e-16 and outputs 1e-14 apart, and the same digits right.

# %%
import os
from time import perf_counter

import numpy as np
from matplotlib import pyplot as plt

import ldl
from ldl import nn, optim
from ldl.backend import BackendUnavailableError, backend_names
from ldl.data import load_dataset

FAST = "LDL_FAST" in os.environ
EPOCHS, BATCH = (3 if FAST else 20), 32
digits = load_dataset("digits")
x, y = digits.x_train, digits.y_train


# %%
def net() -> nn.Sequential:
    """64-128-64-10 with dropout, in float64: what differs is then rounding and no more."""
    ldl.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(64, 128, weight_init="he_uniform"),
        nn.ReLU(),
        nn.Dropout(0.2),
        nn.Linear(128, 64, weight_init="he_uniform"),
        nn.ReLU(),
        nn.Linear(64, 10),
    )
    return model.to(dtype="float64")


def trained(record: bool) -> tuple[np.ndarray, np.ndarray, float]:
    """Every step's loss, the outputs for the held-out digits, and the seconds of a usual step."""
    model = net()
    adam = optim.Adam(model, lr=1e-3)
    step = ldl.TrainStep(model, nn.CrossEntropyLoss(), adam, record=record)
    backend, chance = model.backend, np.random.default_rng(0)
    losses, times = [], []
    model.train()
    for _ in range(EPOCHS):
        for rows in np.split(chance.permutation(len(x)), range(BATCH, len(x), BATCH)):
            batch = backend.asarray(x[rows], dtype="float64"), backend.asarray(y[rows])
            began = perf_counter()
            losses.append(float(step(*batch)))
            times.append(perf_counter() - began)
    model.eval()
    return np.array(losses), backend.to_numpy(model.predict(digits.x_test)), float(np.median(times))


runs = {}
for name in sorted(backend_names()):
    try:
        with ldl.use_backend(name):
            runs[name] = trained(record=True)
    except BackendUnavailableError as fault:
        print(f"{name}: not here ({str(fault).splitlines()[0]})")
with ldl.use_backend("numpy"):
    runs["numpy, layer by layer"] = trained(record=False)

# %%
steps, (first_losses, first_outputs, _) = EPOCHS * -(-len(x) // BATCH), runs["numpy"]
for name, (losses, outputs, seconds) in runs.items():
    right = (outputs.argmax(1) == digits.y_test).mean()
    apart = np.abs(losses - first_losses).max()
    print(
        f"{name}: {right:.2%} right, {1e6 * seconds:.0f} µs a step (median); "
        f"losses at most {apart:.1e} and outputs {np.abs(outputs - first_outputs).max():.1e} "
        "from numpy's"
    )

# %%
figure, (ax, speed) = plt.subplots(
    1, 2, figsize=(10, 3.8), width_ratios=(3, 2), layout="constrained"
)
for (name, (losses, _, _)), style in zip(runs.items(), ("-", "--", ":", "-."), strict=False):
    mean = losses[: steps // 9 * 9].reshape(-1, 9).mean(1)
    ax.semilogy(9 * np.arange(1, len(mean) + 1), mean, style, label=name, linewidth=2)
ax.set(xlabel="step", ylabel="cross-entropy, mean of 9", title="The same training on every backend")
ax.legend()
bars = speed.barh(list(runs), [1e6 * seconds for *_, seconds in runs.values()], 0.5)
speed.bar_label(bars, fmt="%.0f", padding=3)
speed.set(xlabel="µs a step, median", title=f"64-128-64-10, batches of {BATCH}, float64")
speed.margins(x=0.15)
speed.invert_yaxis()
plt.show()
