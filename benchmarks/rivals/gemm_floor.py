"""The floor: the matrix products of a step, written into buffers that are there, and no more."""

from __future__ import annotations

from itertools import cycle
from typing import Any

import numpy as np

from benchmarks.side import Built, Side
from benchmarks.workloads import Batch, Weights, Workload


class GemmFloor(Side):
    """np.matmul with out=, in the order of a step."""

    same_work = False

    def __init__(self, predicts: bool) -> None:
        self.name = FLOOR
        self.predicts = predicts

    def build(self, workload: Workload, weights: Weights, batches: list[Batch]) -> Built:
        """The floor of a workload; what the products mean is of no account, so G is random."""
        rng = np.random.default_rng(0)
        ws = [w.copy() for w, _ in weights]
        outs = [np.empty((workload.batch, w.shape[1]), np.float32) for w in ws]
        inputs = cycle([x for x, _ in batches])

        def forward() -> Any:
            h = x = next(inputs)
            for w, out in zip(ws, outs, strict=True):
                h = np.matmul(h, w, out=out)
            return x

        if workload.predict:
            return Built(forward)
        grads = [np.empty_like(out) for out in outs]
        grads[-1][...] = rng.standard_normal(grads[-1].shape)
        dws = [np.empty_like(w) for w in ws]

        def step() -> None:
            x = forward()
            for k in range(len(ws) - 1, 0, -1):
                np.matmul(outs[k - 1].T, grads[k], out=dws[k])
                np.matmul(grads[k], ws[k].T, out=grads[k - 1])
            np.matmul(x.T, grads[0], out=dws[0])

        return Built(step)


FLOOR = "GEMM floor (NumPy)"

SIDES = [GemmFloor(False), GemmFloor(True)]
