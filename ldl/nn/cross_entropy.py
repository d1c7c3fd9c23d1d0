"""CrossEntropyLoss and NLLLoss, of classes against labels or distributions."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from ldl.backend import Array, Backend
from ldl.nn.linear import as_rows
from ldl.nn.losses import Loss, check_batch, total
from ldl.numbers import integer, numbers, real

IGNORED = -100
"""The label that counts for nothing unless another is chosen."""


class _ClassLoss(Loss):
    """l_n = -Σ_c w_c q_nc log p_nc for log-probabilities made of the input (N, …, C)."""

    takes_labels: ClassVar[bool] = True
    takes: ClassVar[str]
    label_smoothing: float = 0.0

    def __init__(self, weight: Any, ignore_index: int, reduction: str) -> None:
        self._set_reduction(reduction)
        if isinstance(weight, dict):
            raise TypeError("weight must be a list of one number a class, not a dict")
        self.weight = None if weight is None else numbers("weight", weight)
        self.ignore_index = integer("ignore_index", ignore_index)
        self._weights: Array = None
        self._ratios: Array = None
        self.to(self.backend)
        if self.weight is not None and not all(0 <= w < float("inf") for w in self.weight):
            raise ValueError("weights must be finite and not negative")

    def log_probabilities(self, x: Array) -> Array:
        """Log p (N, C) for the input's rows."""
        raise NotImplementedError(f"{type(self).__name__} has no log_probabilities")

    def slope(self, logp: Array, q: Array) -> Array:
        """∂l/∂x (N, C), for q times the weights."""
        raise NotImplementedError(f"{type(self).__name__} has no slope")

    def to(self, backend: str | Backend) -> Self:
        """Compute on another backend from now on."""
        super().to(backend)
        if self.weight is not None:
            largest = max([w for w in self.weight if w > 0], default=1.0)
            self._weights = self.backend.asarray(self.weight)
            self._ratios = self.backend.asarray([w / largest for w in self.weight])
        return self

    def forward(self, input: Array, target: Array, sample_weight: Array | None = None) -> Array:
        """The reduced l_n."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        shape = tuple(input.shape)
        input, target = as_rows(input), self._rows(shape, target)
        if target.ndim == 2 and target.dtype.kind in "biu":  # one-hot
            target = target.astype(input.dtype)
        self._check_dtype(input, input if target.ndim == 1 else target)
        xp = self.backend.xp
        logp = self.log_probabilities(input)
        q, counts = self._weighted(target, input)
        losses = -(q * xp.where(q != 0, logp, 0)).sum(axis=1)
        factor: Any = self._scale(shape[:-1])
        if sample_weight is not None:
            losses = losses.reshape(shape[0], -1)
            each = counts.reshape(shape[0], -1).sum(axis=1, keepdims=True)
            factor = self._factor(losses, sample_weight, each if self._by_labels(target) else None)
        elif self._by_labels(target):
            counted = total(counts)
            factor = 1 / xp.where(counted > 0, counted, 1)
        self.keep(logp, q, factor, shape)
        reduced = self._reduce(losses, factor)
        return reduced.reshape(shape[:-1]) if self.reduction == "none" else reduced

    def backward(self, grad: Array | None = None) -> Array:
        """∂l/∂x, times what the reduction makes of it."""
        logp, q, factor, shape = self.take()
        gradient = self.slope(logp, q)
        if getattr(factor, "ndim", 0):
            gradient = gradient.reshape(shape[0], -1)
        gradient = self._counted(gradient, factor).astype(logp.dtype, copy=False)
        gradient = gradient.reshape(-1, shape[-1])
        if grad is not None:
            gradient *= grad.reshape(-1, 1) if self.reduction == "none" else grad
        return gradient.reshape(shape)

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """Check shapes, and labels against the number of classes or distributions for their sum."""
        self._check_array(target)
        self._check_shape(tuple(input_shape), target)
        if self.fault(input_shape, target):
            message = self.refusal(input_shape, tuple(target.shape))
            rows = self._rows(input_shape, target)
            if rows.ndim == 1:
                labels = self._labels(rows)
                wrong = int(labels[self._bad(input_shape[-1], labels).argmax()])
                message = message.replace("a label", f"label {wrong}")
            raise ValueError(message)

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether a label is no class, or a row no distribution."""
        target = self._rows(input_shape, target)
        if target.ndim == 1:
            return self._bad(input_shape[-1], self._labels(target)).any()
        xp = self.backend.xp
        return ~((target.min() >= 0) & (xp.abs(target.sum(axis=1) - 1) <= 1e-3).all())

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """What labels and distributions are."""
        if len(target_shape) < len(input_shape):
            classes = input_shape[-1]
            return f"a label is not one of the {classes} classes 0 .. {classes - 1}"
        return (
            f"{self!r}: target distributions must not be negative and sum to 1 in every row, the "
            "last axis: divide each row by its sum"
        )

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """For labels and "mean" each sample's weight w_y, 0 where it is ignored."""
        n, *_, classes = input_shape
        target = self._rows(input_shape, target)
        if target.ndim == 2 or self.reduction not in ("mean", "none"):
            return super().denominator(input_shape, target)
        labels = self._labels(target)
        counted = (labels != self.ignore_index).astype("float32")
        if self.weight is not None:
            known = self.backend.xp.clip(labels, 0, classes - 1)
            counted = counted * self._class_weights(target)[known]
        return counted if len(input_shape) == 2 else counted.reshape(n, -1).sum(axis=1)

    def _rows(self, input_shape: tuple[int, ...], target: Array) -> Array:
        """Labels (N,), or distributions (N, C), with all places as rows."""
        labels = target.ndim < len(input_shape)
        if target.ndim > 1 + (not labels):
            target = target.reshape(-1) if labels else as_rows(target)
        return target

    def _class_weights(self, target: Array) -> Array:
        """w; over its largest where only the ratios matter, so that no sum is too small."""
        return self._ratios if self._by_labels(target) else self._weights

    def _by_labels(self, target: Array) -> bool:
        """Whether the reduction divides by the labels' weights."""
        return self.reduction == "mean" and target.ndim == 1

    def _labels(self, target: Array) -> Array:
        return target.astype("int64", copy=False)

    def _bad(self, classes: int, labels: Array) -> Array:
        return (labels != self.ignore_index) & ((labels < 0) | (labels >= classes))

    def _weighted(self, target: Array, x: Array) -> tuple[Array, Array]:
        """w ⊙ q (N, C), and for labels w_{y_n} (N,)."""
        xp, classes = self.backend.xp, x.shape[1]
        if target.ndim == 1:
            labels = self._labels(target)
            q = (labels[:, None] == xp.arange(classes)).astype(x.dtype)
            q *= (labels != self.ignore_index)[:, None]
        else:
            q = target
        w = None if self.weight is None else self._class_weights(target).astype(x.dtype)
        counts = (q if w is None else q * w).sum(axis=1)
        if self.label_smoothing:
            kept = q.sum(axis=1, keepdims=True) if target.ndim == 1 else 1.0
            q = (1 - self.label_smoothing) * q + (self.label_smoothing / classes) * kept
        return (q if w is None else q * w), counts

    def _check_shape(self, input_shape: tuple[int, ...], target: Array) -> None:
        if len(input_shape) < 2:
            raise ValueError(f"{self!r} takes {self.takes} (N, C), got {input_shape}")
        shape, kind = tuple(target.shape), target.dtype.kind
        *_, classes = input_shape
        if len(shape) == len(input_shape) - 1 and kind not in "iu":
            raise TypeError(
                f"class labels must be integers, got {target.dtype}: use target.astype('int64'), "
                f"or give distributions of shape {input_shape}"
            )
        if shape not in (input_shape[:-1], input_shape):
            way = f"give labels {input_shape[:-1]} or distributions {input_shape}"
            if len(shape) > 1 and shape == input_shape[:1] + input_shape[2:]:
                axes = [*range(2, len(input_shape)), 1]
                way = (
                    "classes are the last axis here, not the second: end the model with "
                    f"nn.Permute{tuple(axes)}, or leave its channels last"
                )
            raise ValueError(
                f"{self!r}: the input has shape {input_shape} and the target {shape}: {way}"
            )
        if self.weight is not None and len(self.weight) != classes:
            raise ValueError(
                f"{len(self.weight)} class weights for {classes} classes: give one a class"
            )
        if len(shape) == len(input_shape) and self.ignore_index != IGNORED:
            raise ValueError(
                f"{self!r}: ignore_index is for labels, and the target holds distributions: leave "
                "it out, and drop the rows that are to count for nothing"
            )
        check_batch(self, input_shape)


class CrossEntropyLoss(_ClassLoss):
    """l_n = -Σ_c w_c q_nc log softmax(x_n)_c for logits x (N, C).

    Targets are integer labels (N,), q_n then being one-hot, or distributions q (N, C). Of further
    axes, x (N, …, C) with labels (N, …), as for each token of a sequence, every place is one n, and
    "batchmean" divides by the number of sequences. With label smoothing ε, q becomes (1 - ε)q +
    ε/C. Samples labelled `ignore_index` count for nothing.
    `weight` gives w, one number a class. The mean divides by the labels' weights Σ_n w_{y_n}, or by
    N for distributions. The gradient is ∂l_n/∂x_n = softmax(x_n) Σ_c w_c q_nc - w ⊙ q_n.

    A class whose logit is -inf has no part in it, unless the target names it: that costs infinity.
    A batch in which no label counts costs 0, so that a step on it moves nothing, and has no weight
    among others; the mean over a data set in which none counts is NaN.

    Raises TypeError for float labels, ValueError for labels outside [0, C), for distributions with
    a negative number or a sum that differs from 1 by more than 1e-3, and for distributions where
    `ignore_index`, which is for labels, was chosen.
    """

    takes: ClassVar[str] = "logits"

    def __init__(
        self,
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        super().__init__(weight, ignore_index, reduction)
        self.label_smoothing = real("label_smoothing", label_smoothing)
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")

    def log_probabilities(self, x: Array) -> Array:
        """Log softmax x."""
        return self.backend.log_softmax(x)

    def slope(self, logp: Array, q: Array) -> Array:
        """softmax(x) Σ_c w_c q_c - w ⊙ q."""
        return self.backend.xp.exp(logp) * q.sum(axis=1, keepdims=True) - q


class NLLLoss(_ClassLoss):
    """l_n = -Σ_c w_c q_nc x_nc for log-probabilities x (N, C), such as LogSoftmax gives.

    ∂l_n/∂x_n = -w ⊙ q_n. Targets are integer labels y (N,), l_n then being -w_{y_n} x_{n,y_n}, or
    distributions q (N, C). Classes are the last axis; further axes, `weight`, `ignore_index`, what
    the mean divides by and the errors are those of CrossEntropyLoss, which is this of log softmax x
    in one. A class of probability 0, whose logarithm is -inf, costs infinity where the target
    names it, else nothing.
    """

    takes: ClassVar[str] = "log-probabilities"

    def __init__(
        self, weight: Any = None, ignore_index: int = IGNORED, reduction: str = "mean"
    ) -> None:
        super().__init__(weight, ignore_index, reduction)

    def log_probabilities(self, x: Array) -> Array:
        """X itself."""
        return x

    def slope(self, logp: Array, q: Array) -> Array:
        """-w ⊙ q."""
        return -q
