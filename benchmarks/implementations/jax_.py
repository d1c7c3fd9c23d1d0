"""JAX: the step under jit with Optax's Adam, its buffers donated."""

from __future__ import annotations

from itertools import cycle
from typing import Any

from benchmarks.device import Device
from benchmarks.implementation import Implementation, Prepared, Refused
from benchmarks.workloads import BETAS, EPS, LR, NORM_EPS, Batch, Weights, Workload


def output(workload: Workload, params: Any, x: Any, key: Any = None) -> Any:
    """The net's output; `key` draws its dropout."""
    import jax

    if workload.layer:
        h = x * params[0][0] + params[0][1]
        if workload.layer == "softmax":
            return h
        axis = 0 if workload.layer == "batchnorm" else 1
        y = jax.nn.standardize(h, axis=axis, epsilon=NORM_EPS)
        return y * params[1][0] + params[1][1]
    last = len(params) - 1
    for k, (w, b) in enumerate(params):
        x = x @ w + b
        if k < last:
            x = jax.nn.relu(x)
            if key is not None:
                keep = 1 - workload.dropout
                mask = jax.random.bernoulli(jax.random.fold_in(key, k), keep, x.shape)
                x = jax.numpy.where(mask, x / keep, 0)
    return jax.nn.sigmoid(x) if workload.output == "sigmoid" else x


class Jax(Implementation):
    """The base: arrays that lie on JAX's device already."""

    def place(self, batches: list[Batch], device: Device) -> list[Batch]:
        """As JAX's arrays."""
        import jax

        return [jax.device_put(batch) for batch in batches]


class Trains(Jax):
    """One compiled call a step. It waits for each or, pipelined, for the last of a block alone."""

    needs = ("jax", "optax")

    def __init__(self, name: str, pipelined: bool) -> None:
        self.name = name
        self.pipelined = pipelined

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The step."""
        import jax
        import optax

        if workload.net:
            raise Refused("its net is not written in JAX")
        optimizer = optax.adam(LR, *BETAS, eps=EPS)

        def loss(params: Any, x: Any, y: Any, key: Any) -> Any:
            out = output(workload, params, x, key)
            if workload.loss == "crossentropy":
                return optax.softmax_cross_entropy_with_integer_labels(out, y).mean()
            if workload.loss == "bce":
                return optax.sigmoid_binary_cross_entropy(out, y).mean()
            return ((out - y) ** 2).sum() / len(x)

        def update(params: Any, slots: Any, key: Any, x: Any, y: Any) -> Any:
            use = None
            if workload.dropout:
                key, use = jax.random.split(key)
            value, grads = jax.value_and_grad(loss)(params, x, y, use)
            moves, slots = optimizer.update(grads, slots, params)
            return value, optax.apply_updates(params, moves), slots, key

        compiled = jax.jit(update, donate_argnums=(0, 1, 2))
        params = jax.tree.map(lambda a: jax.numpy.array(a, copy=True), weights)
        state = [params, optimizer.init(params), jax.random.key(0)]
        turn = cycle(batches)

        def dispatch() -> Any:
            value, *state[:] = compiled(*state, *next(turn))
            return value

        def step() -> Any:
            return dispatch().block_until_ready()

        if self.pipelined:
            return Prepared(dispatch, wait=lambda value: value.block_until_ready())
        return Prepared(step)


class Predicts(Jax):
    """The forward pass under jit."""

    name = "JAX jit"
    needs = ("jax",)
    predicts = True

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """The forward pass."""
        import jax

        params = jax.device_put(weights)
        compiled = jax.jit(lambda p, x: output(workload, p, x))
        turn = cycle([x for x, _ in batches])
        return Prepared(lambda: compiled(params, next(turn)).block_until_ready())


IMPLEMENTATIONS = [
    Trains("JAX jit + Optax", pipelined=False),
    Trains("JAX jit + Optax, pipelined", pipelined=True),
    Predicts(),
]
