"""evaluate: the loss and the metrics over a data set."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ldl.backend import Array
from ldl.data.batching import Arrays, Data, as_data
from ldl.data.cuts import parts_of
from ldl.distributed.world import ALONE, World, stopping_all
from ldl.nn.losses import Loss, check_weighable
from ldl.nn.module import Module, check_output, evaluated, shape_of_output
from ldl.numbers import positive_integer
from ldl.random import NOISE, Stream
from ldl.train.metrics import AnyMetric, as_metrics
from ldl.train.tally import Tally

_Asked = str | AnyMetric | Callable[..., Any]
Metrics = _Asked | Iterable[_Asked | tuple[str, Callable[..., Any]]]
"""What may be given as metrics: one or several."""

LOOK = 256
"""Samples whose outputs are looked at before the first step."""


@stopping_all
def evaluate(
    model: Module,
    data: Any,
    loss: Loss,
    metrics: Metrics | None = (),
    *,
    sample_weight: Any = None,
    batch_size: int = 1024,
    seed: int = 0,
    check_finite: bool = False,
    world: World | None = None,
) -> dict[str, Any]:
    """The loss and the metrics over a data set, in eval mode, as {"loss": …, "mse": …}.

    They are those of all samples at once, whatever `batch_size`: of reduction "sum" the sum, of
    "none" what "mean" gives, and NaN where every label is ignored. `metrics` are those of `fit`:
    ("auc", roc_auc_score) in a list is any function of (y_true, y_pred), see `EpochMetric`.
    `sample_weight` (N,) says what each sample counts in the loss, Σ_n w_n l_n / Σ_n w_n, and in
    metrics that are weighted, as "weighted_accuracy" is; it may be given as a part of the data as
    well, (x, y, sample_weight). Noise of the data is drawn from `seed`, the same at every call.
    `check_finite` is that of `fit`. The model's mode is as before afterwards.

    With a `world` of several ranks each takes its rows of every batch, or
    of data that are an `ldl.data.Shard` its own, and all get the figures of all samples.
    """
    check_kinds(model, loss)
    batch_size = positive_integer("batch_size", batch_size)
    figures = as_metrics(metrics, loss)
    given = as_data(data, sample_weight)
    tokens = model.takes_integers
    dtype = model.dtype
    if isinstance(given, Arrays) and not tokens:
        dtype = model.dtype_for(given.x)
    if check_finite:
        given.check_finite(dtype)
    placed = given.place(model.backend, dtype, loss.takes_labels, tokens)
    if isinstance(placed, Arrays):
        check_targets(model, loss, figures, placed.x, placed.y)
    return score(model, placed, loss, figures, batch_size, seed, world=world or ALONE)


def score(
    model: Module,
    data: Data,
    loss: Loss,
    metrics: list[AnyMetric],
    batch_size: int,
    seed: int,
    place: str = "",
    world: World = ALONE,
) -> dict[str, Any]:
    """`evaluate` of data that is placed and, where it is whole, checked; waits only at the end."""
    if world.size > 1:
        check_apart(model)
    tally = Tally(model.backend, loss, metrics, place=place, world=world)
    evaluated(_count, tally, model, data, batch_size, seed)
    return tally.means()


def check_apart(model: Module) -> None:
    """ValueError for layers whose outputs in eval mode depend on the other samples of a batch."""
    for name, module in model.named_modules():
        if module.mixes_samples and getattr(module, "running_mean", ...) is None:
            raise ValueError(
                f"{name} = {module!r} takes the statistics of a batch in eval mode too, and each "
                "rank has but its share: evaluate on one process, or let it track running ones"
            )


def _count(tally: Tally, model: Module, data: Data, batch_size: int, seed: int) -> None:
    stream = Stream(seed, NOISE, 1)
    for share, x, y, *weights in parts_of(
        data, model.backend, batch_size, tally.world, None, stream
    ):
        if not share.here:
            tally.add_nothing()
            continue
        output = check_output(model, model(x))
        if weights:
            check_weighable(tally.loss)
        value = tally.loss.forward(*map(_of_its_own, (output, y, *weights)))
        shape = tuple(output.shape)
        if not isinstance(data, Arrays):
            tally.check(shape, y)
        tally.add(value, shape, output, y, *weights)


def _of_its_own(a: Array) -> Array:
    """A copy; of half precision in single, in which the sum of many losses is a number."""
    return a.astype("float32") if a.dtype == "float16" else a.copy()


def check_targets(
    model: Module, loss: Loss, metrics: list[AnyMetric], x: Array, y: Array
) -> tuple[int, ...]:
    """Check targets, values included, against what the model makes of the first samples.

    Returns the shape of the outputs. Where a loss has no value for some, those of `LOOK` samples
    are looked at, so that most mistakes show before the first step; else one's shape says all.
    """
    shape = (len(x), *shape_of_output(model, x))
    loss.check(shape, y)
    if type(loss).check_input is not Loss.check_input:
        loss.check_input(model.predict(x[:LOOK]))
    for metric in metrics:
        metric.check(shape, tuple(y.shape))
    return shape


def check_kinds(model: Any, loss: Any) -> None:
    """TypeError for what is no model and no loss."""
    if not isinstance(model, Module):
        raise TypeError(
            "model must be a Module such as ldl.nn.Sequential(ldl.nn.Linear(4, 2)), "
            f"got {shown(model)}"
        )
    if not isinstance(loss, Loss):
        raise TypeError(f"loss must be a loss such as ldl.nn.CrossEntropyLoss(), got {shown(loss)}")


def shown(given: Any) -> str:
    """What was given, for an error."""
    if isinstance(given, type):
        return f"the class {given.__name__}: write {given.__name__}(...)"
    text = repr(given)
    return text if "\n" not in text and len(text) < 80 else f"a {type(given).__name__}"
