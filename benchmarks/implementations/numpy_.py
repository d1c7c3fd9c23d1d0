"""Plain NumPy without a library: the reference's code, in float32."""

from __future__ import annotations

from itertools import cycle

from benchmarks.device import Device
from benchmarks.implementation import Implementation, Prepared, Refused
from benchmarks.reference import by_hand
from benchmarks.workloads import Batch, Weights, Workload


class ByHand(Implementation):
    """Training, or prediction."""

    name = "NumPy, written by hand"

    def __init__(self, predicts: bool) -> None:
        self.predicts = predicts

    def build(
        self, workload: Workload, weights: Weights, batches: list[Batch], device: Device
    ) -> Prepared:
        """A step, or the forward pass."""
        if workload.net:
            raise Refused("its net is not written by hand")
        net, turn = by_hand(workload, weights), cycle(batches)
        if workload.predict:
            return Prepared(lambda: net.forward(next(turn)[0])[-1])
        return Prepared(lambda: net.step(*next(turn)))


IMPLEMENTATIONS = [ByHand(False), ByHand(True)]
