"""CrossEntropyLoss, of logits against labels or distributions."""

from __future__ import annotations

from typing import Any, ClassVar, Self

from ldl.backend import Array, Backend
from ldl.nn.losses import Loss, check_batch
from ldl.numbers import integer, numbers, real


class CrossEntropyLoss(Loss):
    """l_n = -Σ_c w_c q_nc log softmax(x_n)_c for logits x (N, C).

    Targets are integer labels (N,), q_n then being one-hot, or distributions q (N, C). With label
    smoothing ε, q becomes (1 - ε)q + ε/C. Samples labelled `ignore_index` count for nothing.
    `weight` gives w, one number a class. The mean divides by the labels' weights Σ_n w_{y_n}, or by
    N for distributions. The gradient is ∂l_n/∂x_n = softmax(x_n) Σ_c w_c q_nc - w ⊙ q_n.

    Raises TypeError for float labels, ValueError for labels outside [0, C) and for distributions
    with a negative number or a sum that differs from 1 by more than 1e-3.
    """

    takes_labels: ClassVar[bool] = True

    def __init__(
        self,
        weight: Any = None,
        label_smoothing: float = 0.0,
        ignore_index: int = -100,
        reduction: str = "mean",
    ) -> None:
        self._set_reduction(reduction)
        if isinstance(weight, dict):
            raise TypeError("weight must be a list of one number a class, not a dict")
        self.weight = None if weight is None else numbers("weight", weight)
        self.label_smoothing = real("label_smoothing", label_smoothing)
        self.ignore_index = integer("ignore_index", ignore_index)
        self._weights: Array = None
        self.to(self.backend)
        if self.weight is not None and not all(0 <= w < float("inf") for w in self.weight):
            raise ValueError("weights must be finite and not negative")
        if not 0 <= self.label_smoothing < 1:
            raise ValueError(f"label_smoothing must lie in [0, 1), got {label_smoothing!r}")

    def to(self, backend: str | Backend) -> Self:
        """Compute on another backend from now on."""
        super().to(backend)
        if self.weight is not None:
            self._weights = self.backend.asarray(self.weight)
        return self

    def forward(self, input: Array, target: Array) -> Array:
        """The reduced l_n."""
        self._check_device(input, target)
        self._check_shape(tuple(input.shape), target)
        self._check_dtype(input, input if target.ndim == 1 else target)
        xp = self.backend.xp
        logp = self.backend.log_softmax(input)
        q, counts = self._weighted(target, input)
        losses = -(q * logp).sum(axis=1)
        scale: Any = self._scale(losses.shape)
        if self.reduction == "mean" and target.ndim == 1:
            scale = 1 / xp.maximum(counts.sum(), 1e-30)
        self.keep(logp, q, scale)
        return losses if self.reduction == "none" else losses.sum() * scale

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
        self._check_shape(input_shape, target)
        if target.ndim == 1:
            classes = input_shape[1]
            target = target.astype("int64", copy=False)
            bad = (target != self.ignore_index) & ((target < 0) | (target >= classes))
            if bad.any():
                wrong = int(target[bad.argmax()])
                raise ValueError(
                    f"label {wrong} is not one of the {classes} classes 0 .. {classes - 1}"
                )
            return
        xp = self.backend.xp
        sound = (target.min() >= 0) & (xp.abs(target.sum(axis=1) - 1) <= 1e-3).all()
        if not sound:
            raise ValueError(
                f"{self!r}: target distributions must not be negative and sum to 1 in every row: "
                "divide each row by its sum"
            )

    def _weighted(self, target: Array, x: Array) -> tuple[Array, Array]:
        """w ⊙ q (N, C), and for labels w_{y_n} (N,)."""
        xp, classes = self.backend.xp, x.shape[1]
        if target.ndim == 1:
            target = target.astype("int64", copy=False)
            q = (target[:, None] == xp.arange(classes)).astype(x.dtype)
            q *= (target != self.ignore_index)[:, None]
        else:
            q = target
        w = None if self.weight is None else self._weights.astype(x.dtype)
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
        check_batch(self, input_shape)
