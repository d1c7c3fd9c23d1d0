"""CrossEntropyLoss, of logits against labels or distributions."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from ldl.backend import Array, Backend
from ldl.nn.losses import Loss, check_batch, total
from ldl.numbers import integer, numbers, real

IGNORED = -100
"""The label that counts for nothing unless another is chosen."""


class CrossEntropyLoss(Loss):
    """l_n = -Σ_c w_c q_nc log softmax(x_n)_c for logits x (N, C).

    Targets are integer labels (N,), q_n then being one-hot, or distributions q (N, C). With label
    smoothing ε, q becomes (1 - ε)q + ε/C. Samples labelled `ignore_index` count for nothing.
    `weight` gives w, one number a class. The mean divides by the labels' weights Σ_n w_{y_n}, or by
    N for distributions. The gradient is ∂l_n/∂x_n = softmax(x_n) Σ_c w_c q_nc - w ⊙ q_n.

    A class whose logit is -inf has no part in it, unless the target names it: that costs infinity.
    A batch in which no label counts costs 0, so that a step on it moves nothing, and has no weight
    among others; the mean over a data set in which none counts is NaN.

    Raises TypeError for float labels, ValueError for labels outside [0, C), for distributions with
    a negative number or a sum that differs from 1 by more than 1e-3, and for distributions where
    `ignore_index`, which is for labels, was chosen.
    """

    takes_labels: ClassVar[bool] = True

    def __init__(
        self,
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORED,
        reduction: str = "mean",
    ) -> None:
        self._set_reduction(reduction)
        if isinstance(weight, dict):
            raise TypeError("weight must be a list of one number a class, not a dict")
        self.weight = None if weight is None else numbers("weight", weight)
        self.label_smoothing = real("label_smoothing", label_smoothing)
        self.ignore_index = integer("ignore_index", ignore_index)
        self._weights: Array = None
        self._ratios: Array = None
        self.to(self.backend)
        if self.weight is not None and not all(0 <= w < float("inf") for w in self.weight):
            raise ValueError("weights must be finite and not negative")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")

    def to(self, backend: str | Backend) -> Self:
        """Compute on another backend from now on."""
        super().to(backend)
        if self.weight is not None:
            largest = max([w for w in self.weight if w > 0], default=1.0)
            self._weights = self.backend.asarray(self.weight)
            self._ratios = self.backend.asarray([w / largest for w in self.weight])
        return self

    def forward(self, input: Array, target: Array) -> Array:
        """The reduced l_n."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        self._check_dtype(input, input if target.ndim == 1 else target)
        xp = self.backend.xp
        logp = self.backend.log_softmax(input)
        q, counts = self._weighted(target, input)
        losses = -(q * xp.where(q != 0, logp, 0)).sum(axis=1)
        scale: Any = self._scale(losses.shape)
        if self._by_labels(target):
            counted = total(counts)
            scale = 1 / xp.where(counted > 0, counted, 1)
        self.keep(logp, q, scale)
        if self.reduction == "none":
            return losses
        return (total(losses) * scale).astype(input.dtype, copy=False)

    def backward(self, grad: Array | None = None) -> Array:
        """softmax(x) Σ_c w_c q_c - w ⊙ q, times what the reduction makes of it."""
        logp, q, scale = self.take()
        xp = self.backend.xp
        gradient = xp.exp(logp) * q.sum(axis=1, keepdims=True) - q
        gradient *= scale
        if grad is not None:
            gradient *= grad[:, None] if self.reduction == "none" else grad
        return gradient

    def check(self, input_shape: tuple[int, ...], target: Array) -> None:
        """Check shapes, and labels against the number of classes or distributions for their sum."""
        self._check_array(target)
        self._check_shape(tuple(input_shape), target)
        if self.fault(input_shape, target):
            message = self.refusal(input_shape, tuple(target.shape))
            if target.ndim == 1:
                labels = self._labels(target)
                wrong = int(labels[self._bad(input_shape[1], labels).argmax()])
                message = message.replace("a label", f"label {wrong}")
            raise ValueError(message)

    def fault(self, input_shape: tuple[int, ...], target: Array) -> Array | None:
        """Whether a label is no class, or a row no distribution."""
        if target.ndim == 1:
            return self._bad(input_shape[1], self._labels(target)).any()
        xp = self.backend.xp
        return ~((target.min() >= 0) & (xp.abs(target.sum(axis=1) - 1) <= 1e-3).all())

    def refusal(self, input_shape: tuple[int, ...], target_shape: tuple[int, ...]) -> str:
        """What labels and distributions are."""
        if len(target_shape) == 1:
            classes = input_shape[1]
            return f"a label is not one of the {classes} classes 0 .. {classes - 1}"
        return (
            f"{self!r}: target distributions must not be negative and sum to 1 in every row: "
            "divide each row by its sum"
        )

    def denominator(self, input_shape: tuple[int, ...], target: Array) -> Array | float:
        """For labels and "mean" each sample's weight w_y, 0 where it is ignored."""
        if target.ndim == 2 or self.reduction not in ("mean", "none"):
            return super().denominator(input_shape, target)
        labels = self._labels(target)
        counted = (labels != self.ignore_index).astype("float32")
        if self.weight is None:
            return counted
        known = self.backend.xp.clip(labels, 0, input_shape[1] - 1)
        return counted * self._class_weights(target)[known]

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
        if len(input_shape) != 2:
            raise ValueError(f"{self!r} takes logits (N, C), got {input_shape}")
        shape, kind = tuple(target.shape), target.dtype.kind
        if len(shape) == 1 and kind not in "iu":
            raise TypeError(
                f"class labels must be integers, got {target.dtype}: use target.astype('int64'), "
                f"or give distributions of shape {input_shape}"
            )
        if shape not in (input_shape[:1], input_shape):
            raise ValueError(
                f"{self!r}: the input has shape {input_shape} and the target {shape}: "
                f"give labels {input_shape[:1]} or distributions {input_shape}"
            )
        if self.weight is not None and len(self.weight) != input_shape[1]:
            raise ValueError(
                f"{len(self.weight)} class weights for {input_shape[1]} classes: give one a class"
            )
        if len(shape) == 2 and self.ignore_index != IGNORED:
            raise ValueError(
                f"{self!r}: ignore_index is for labels, and the target holds distributions: leave "
                "it out, and drop the rows that are to count for nothing"
            )
        check_batch(self, input_shape)
