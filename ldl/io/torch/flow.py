"""What is known of features on their way, and how an axis of theirs is turned."""

from __future__ import annotations

from dataclasses import dataclass, replace

from ldl.io.torch.layers import Tensor

Place = tuple[str, str, int]
"""A tensor's layer, its name below that, and one of its axes."""


@dataclass(frozen=True)
class Turn:
    """PyTorch has the features along an axis of a tensor by channels (C, …), ldl by pixels (…, C).

    With no axis the tensor itself has the shape of an image.
    """

    path: str
    name: str
    axis: int | None
    channels: int

    def to_torch(self, tensor: Tensor) -> Tensor:
        """The tensor in PyTorch's order."""
        return self._turned(tensor, -1, self.channels)

    def to_ldl(self, tensor: Tensor) -> Tensor:
        """The tensor in ldl's order."""
        return self._turned(tensor, self.channels, -1)

    def _turned(self, tensor: Tensor, *split: int) -> Tensor:
        if self.axis is None:
            first = split[0] == -1
            axes = range(tensor.ndim)
            return tensor.transpose([axes[-1], *axes[:-1]] if first else [*axes[1:], 0])
        a, shape = self.axis, tensor.shape
        apart = tensor.reshape(*shape[:a], *split, *shape[a + 1 :])
        return apart.swapaxes(a, a + 1).reshape(shape)


@dataclass(frozen=True)
class Flow:
    """What is known of a batch between two layers.

    Of `kind` "plain" it is what PyTorch has too: rows, or sequences (N, T, D); "pixels" are images
    or sequences that PyTorch has channels first, "flat" those flattened; "shaped" is what `Reshape`
    made and the next layer tells; "start" is what the model is given, and "mixed" anything else.
    """

    kind: str
    channels: int | None = None
    makers: tuple[Place, ...] | None = None
    """Along which axes the features of plain ones lie; None where that is not known."""
    axes: int = 0
    """Those of one sample that is shaped."""

    def shared(self) -> Flow:
        """What several are given: another order of it would be another for all of them."""
        return replace(self, makers=None) if self.kind == "plain" else self

    def permuted(self, dims: tuple[int, ...]) -> Flow:
        """Behind `Permute(*dims)`: what it has in PyTorch's order, or brings from there."""
        n = len(dims)
        if self.kind == "pixels" and dims == (n, *range(1, n)):
            return PLAIN
        if self.kind in ("plain", "start", "shaped") and dims == (*range(2, n + 1), 1):
            return Flow("pixels")
        return MIXED


PLAIN, MIXED = Flow("plain"), Flow("mixed")
