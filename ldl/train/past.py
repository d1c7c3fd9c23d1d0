"""Past: how far the fits of a model have drawn random numbers."""

from __future__ import annotations

from collections.abc import Sequence

from ldl.nn.module import Module


class Past:
    """For every seed the epochs that fits of a model have begun, and their streams' draws.

    It is a part of the model: a copy goes on where the original would, a loaded model begins anew.
    """

    __slots__ = ("_seeds",)

    def __init__(self) -> None:
        self._seeds: dict[int, tuple[int, list[int]]] = {}

    @classmethod
    def of(cls, model: Module) -> Past:
        """The model's own."""
        past: Past = vars(model).setdefault("_ldl_past", cls())
        return past

    def of_seed(self, seed: int, streams: int) -> tuple[int, list[int]]:
        """The epochs begun with a seed, and the draws of so many streams."""
        epochs, draws = self._seeds.get(seed, (0, []))
        return epochs, (draws + [0] * streams)[:streams]

    def note(self, seed: int, epochs: int, draws: Sequence[int]) -> None:
        """Remember where a fit stopped; streams that it did not have stay where they were."""
        _, before = self._seeds.get(seed, (0, []))
        self._seeds[seed] = epochs, [*draws, *before[len(draws) :]]
