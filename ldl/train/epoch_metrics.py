"""Metrics of all of an epoch's outputs at once, such as those of scikit-learn."""

from __future__ import annotations

from collections.abc import Callable
from math import nan
from typing import Any

from ldl.backend import Array, Backend, get_backend
from ldl.distributed.world import ALONE, World
from ldl.io.files import one_line
from ldl.io.values import encode
from ldl.nn.binary_losses import BCELoss, BCEWithLogitsLoss
from ldl.nn.losses import Loss
from ldl.numbers import pythonic


class EpochMetric:
    """A figure of all outputs and targets of an epoch, which is no mean over its batches.

        metrics=[("auc", roc_auc_score), ("r2", r2_score)]
        metrics=[ldl.EpochMetric("f1", f1_score, labels=True)]

    `function(y_true, y_pred)`, in scikit-learn's order, is called once an epoch with NumPy arrays
    of its own: the targets, and what the model made of the samples, in the same order, logits where
    it gives logits. Columns (N, 1) come as (N,). Labels of several axes come as one row for each,
    those that the loss ignores left out with their outputs. With `labels`, y_pred are integers, the
    classes that the outputs name: the largest output's, or for one column, BCELoss and
    BCEWithLogitsLoss whether it is above 1/2 (a logit above 0); so are targets that are
    distributions.

    In `fit`, outputs are those of the training steps, each before its batch's update, and for
    "val_…" those of the validation. Copies of all of an epoch's outputs and targets are kept on the
    device until its end, and then brought to the host: so much memory is needed in both.

    A metric that is `weighted` is called as function(y_true, y_pred, sample_weight=w), as
    scikit-learn's are, where the data have weights of samples; w is one for each row of y_true.

    The figure is a number, or an array (a confusion matrix), which the history holds as lists. It
    is NaN where the loss is not finite. ValueError, naming the metric, where the function fails.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., Any],
        *,
        labels: bool = False,
        weighted: bool = False,
    ) -> None:
        if not isinstance(name, str):
            raise TypeError(f"a metric is named by a text, got {name!r}")
        if isinstance(function, type) or not callable(function):
            raise TypeError(
                f"the metric {name!r} must be a function of (y_true, y_pred), got {function!r}"
            )
        self.name, self.function, self.labels = name, function, bool(labels)
        self.weighted = bool(weighted)

    def check(self, output: tuple[int, ...], target: tuple[int, ...]) -> None:
        """Nothing: what shapes there is a figure for, the function says."""

    def figure(self, y_true: Any, y_pred: Any, weight: Any, place: str) -> Any:
        """What the function gives, as Python's numbers."""
        own = {"sample_weight": weight} if self.weighted and weight is not None else {}
        try:
            found = pythonic(self.function(y_true, y_pred, **own))
        except Exception as error:
            raise ValueError(
                f"{place}the metric {self.name!r} failed: {type(error).__name__}: {one_line(error)}"
            ) from error
        if isinstance(found, (int, float)):
            return float(found)
        try:
            encode(found, self.name)
        except TypeError:
            found = None
        if found is None or isinstance(found, str):
            raise ValueError(
                f"{place}the metric {self.name!r} gave neither a number nor an array of numbers"
            )
        return found


class Outputs:
    """All outputs and targets of an epoch, on the device until the figures are asked for."""

    def __init__(
        self, backend: Backend, loss: Loss, metrics: list[EpochMetric], world: World = ALONE
    ) -> None:
        self.backend, self.loss, self.metrics, self.world = backend, loss, metrics, world
        self._batches: list[int] = []
        self._outputs: list[Array] = []
        self._targets: list[Array] = []
        self._weights: list[Array] = []
        self._weighs = any(metric.weighted for metric in metrics)

    def add(
        self, batch: int, output: Array, target: Array, sample_weight: Array | None = None
    ) -> None:
        """Keep copies of a batch's, of labels in several axes one row for each."""
        if self._weighs and sample_weight is not None:
            weight = sample_weight
            if _are_labels(target, output):
                ones = self.backend.xp.ones(target.shape, weight.dtype)
                weight = (weight.reshape(-1, *[1] * (target.ndim - 1)) * ones).reshape(-1)
            self._weights.append(weight.copy())
        if _are_labels(target, output):
            output, target = output.reshape(-1, output.shape[-1]), target.reshape(-1)
        self._batches.append(batch)
        self._outputs.append(output.copy())
        self._targets.append(target.copy())

    def figures(self, place: str, finite: bool) -> dict[str, Any]:
        """Every metric's figure by name; `place` begins the messages of errors."""
        if not finite:
            return {metric.name: nan for metric in self.metrics}
        y_true, y_pred, weight = self._whole(place)
        if not len(y_true):
            return {metric.name: nan for metric in self.metrics}
        found = {}
        for metric in self.metrics:
            given = self._classes(y_true, y_pred) if metric.labels else (y_true, y_pred)
            given = _column(given[0].copy()), _column(given[1].copy())
            own = None if weight is None else weight.copy()
            found[metric.name] = metric.figure(*given, own, place)
        return found

    def _whole(self, place: str) -> tuple[Any, Any, Any]:
        """Targets, outputs and weights, if there are any, on the host."""
        found = []
        for parts in (self._targets, self._outputs, self._weights):
            shapes = dict.fromkeys(tuple(part.shape[1:]) for part in parts)
            if len(shapes) > 1:
                names = ", ".join(repr(metric.name) for metric in self.metrics)
                raise ValueError(
                    f"{place}the metric {names} has no value for batches of several shapes, "
                    f"{' and '.join(map(str, list(shapes)[:2]))} a sample: give batches of one"
                )
            joined = self.backend.xp.concatenate(parts) if parts else None
            found.append(None if joined is None else self.backend.to_numpy(joined))
        y_true, y_pred, weight = self._of_all_ranks(found)
        if not _are_labels(y_true, y_pred):
            return y_true, y_pred, weight
        counted = y_true != getattr(self.loss, "ignore_index", None)
        return y_true[counted], y_pred[counted], None if weight is None else weight[counted]

    def _of_all_ranks(self, found: list[Any]) -> list[Any]:
        """Those of every rank, batch by batch, as one process has them."""
        if self.world.size == 1:
            return found
        sizes = [len(part) for part in self._targets]
        ranks = self.world.gather((self._batches, sizes, *found))
        order = [
            (batch, rank, sum(sizes[:i]), size)
            for rank, (batches, sizes, *_) in enumerate(ranks)
            for i, (batch, size) in enumerate(zip(batches, sizes, strict=True))
        ]
        xp, there = get_backend("numpy").xp, sorted(order)
        kinds = [2, 3] if all(rank[4] is None for rank in ranks) else [2, 3, 4]
        joined = [
            xp.concatenate([ranks[r][kind][first : first + n] for _, r, first, n in there])
            for kind in kinds
        ]
        return [*joined, None][:3]

    def _classes(self, y_true: Any, y_pred: Any) -> tuple[Any, Any]:
        """The labels that targets and outputs name."""
        single = isinstance(self.loss, (BCELoss, BCEWithLogitsLoss))
        if y_pred.ndim > 1 and y_pred.shape[-1] > 1 and not single:
            is_distribution = y_true.ndim == y_pred.ndim
            return y_true.argmax(axis=-1) if is_distribution else y_true, y_pred.argmax(axis=-1)
        threshold = 0.0 if isinstance(self.loss, BCEWithLogitsLoss) else 0.5
        true = y_true if y_true.dtype.kind in "iu" else (y_true > 0.5).astype("int64")
        return true, (y_pred > threshold).astype("int64")


def _are_labels(target: Any, output: Any) -> bool:
    """Whether these are integers, one for each row of outputs."""
    return target.dtype.kind in "iu" and target.ndim == output.ndim - 1


def _column(array: Any) -> Any:
    return array[:, 0] if array.ndim == 2 and array.shape[1] == 1 else array
