"""What a step on P ranks costs, on paper: the α-β model of sums over ranks, and the fit of it.

A message of n bytes takes α + n β, latency and time a byte (Hockney 1994, "The communication
challenge for MPP", Parallel Computing 20(3)), and adding up n bytes of it n γ. Of these an
all-reduce takes (Thakur, Rabenseifner and Gropp 2005, "Optimization of collective communication
operations in MPICH", International Journal of High Performance Computing Applications 19(1))

    recursive doubling    ⌈log2 P⌉ (α + n β + n γ)
    Rabenseifner's        2 ⌈log2 P⌉ α + (P-1)/P n (2 β + γ)

a ring the latter's bytes and 2 (P-1) α. MPI's libraries choose by the size, so here it is the
lesser of the two. A step of B rows on P ranks is then

    T(P) = C + max(0, S - o C)    with C the time of a step of ⌈B/P⌉ rows on one rank and S the sum,

where o is the part of C behind which a sum can hide, and S that of all pieces in which the
gradients travel. o is 0 where messages go on only while somebody waits for them, as MPI's mostly do
on processors, and up to backward's share of C where the network moves them by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, log2

import numpy as np

RANKS = tuple(2**k for k in range(11))
"""1 to 1,024."""

Point = tuple[int, float]
"""Rows or bytes, and seconds."""


@dataclass(frozen=True)
class Network:
    """What carries messages between ranks."""

    name: str
    latency: float
    """α, seconds a message."""
    per_byte: float
    """β, seconds a byte: 8 over the bits a second."""


NETWORKS = (
    Network("Ethernet 1 Gb/s, 50 µs", 50e-6, 8 / 1e9),
    Network("Ethernet 25 Gb/s, 10 µs", 10e-6, 8 / 25e9),
    Network("InfiniBand 200 Gb/s, 1.5 µs", 1.5e-6, 8 / 200e9),
)
"""Assumed: bandwidths as they are sold, latencies between two processes as such networks have them
with TCP and with RDMA."""


def doubling(ranks: int, size: int) -> tuple[float, float, float]:
    """Recursive doubling's factors of α, β and γ."""
    rounds = ceil(log2(ranks))
    return rounds, rounds * size, rounds * size


def halving(ranks: int, size: int) -> tuple[float, float, float]:
    """Those of Rabenseifner's algorithm."""
    part = (ranks - 1) / ranks * size
    return 2 * ceil(log2(ranks)), 2 * part, part


ALGORITHMS = (doubling, halving)


def summing(ranks: int, size: int, network: Network, gamma: float = 0.0) -> float:
    """Seconds of an all-reduce of `size` bytes, by the algorithm that takes fewer."""
    costs = np.array([network.latency, network.per_byte, gamma])
    return min(float(np.dot(costs, algorithm(ranks, size))) for algorithm in ALGORITHMS)


def fit(measured: Sequence[tuple[int, int, float]], gamma: float = 0.0) -> tuple[Network, float]:
    """α and β of (ranks, bytes, seconds), and the largest error, in units of what was measured.

    Least squares of those errors. Which algorithm a size takes follows from α and β, so both are
    found in turn until neither changes.
    """
    seconds = np.array([s for *_, s in measured])
    factors = np.array([[a(p, n) for a in ALGORITHMS] for p, n, _ in measured], float)
    chosen = np.ones(len(measured), int)
    found, seen = np.zeros(2), set()
    while chosen.tobytes() not in seen:
        seen.add(chosen.tobytes())
        rows = factors[np.arange(len(measured)), chosen]
        found = _positive(rows[:, :2] / seconds[:, None], 1 - gamma * rows[:, 2] / seconds)
        chosen = (factors @ [*found, gamma]).argmin(axis=1)
    network = Network("as fitted", float(found[0]), float(found[1]))
    said = np.array([summing(p, n, network, gamma) for p, n, _ in measured])
    return network, float(np.abs(said / seconds - 1).max())


def _positive(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The x ≥ 0 of least |a x - b|², for two unknowns."""
    both = np.linalg.lstsq(a, b, rcond=None)[0]
    if (both >= 0).all():
        return both
    single = np.maximum(a.T @ b / (a * a).sum(axis=0), 0) * np.eye(2)
    return min(single, key=lambda x: float(((a @ x - b) ** 2).sum()))


def between(points: Sequence[Point]) -> Callable[[int], float]:
    """The time of a step of so many rows, by straight lines through what was measured.

    Beyond the last the last line goes on.
    """
    rows, seconds = zip(*sorted(points), strict=True)
    slope = (seconds[-1] - seconds[-2]) / (rows[-1] - rows[-2]) if len(rows) > 1 else 0.0

    def time(count: int) -> float:
        beyond = max(0, count - rows[-1])
        return float(np.interp(count, rows, seconds)) + slope * beyond

    return time


@dataclass(frozen=True)
class Cost:
    """A net's steps on P ranks."""

    compute: Callable[[int], float]
    pieces: Sequence[int]
    """Bytes that are summed over the ranks, of every message."""
    network: Network
    gamma: float = 0.0
    overlap: float = 0.0
    """o, the part of a step's computing behind which a sum can hide."""

    def step(self, rows: int, ranks: int) -> float:
        """Seconds of a step of `rows` in all."""
        own = self.compute(ceil(rows / ranks))
        if ranks == 1:
            return own
        whole = sum(summing(ranks, n, self.network, self.gamma) for n in self.pieces)
        return own + max(0.0, whole - self.overlap * own)

    def strong(self, rows: int, ranks: int) -> float:
        """How many times faster than on one rank a batch of `rows` is."""
        return self.step(rows, 1) / self.step(rows, ranks)

    def weak(self, rows: int, ranks: int) -> float:
        """The same for a batch of `rows` a rank: times as many samples a second."""
        return ranks * self.step(rows, 1) / self.step(rows * ranks, ranks)

    def limits(self, rows: int, counts: Sequence[int] = RANKS) -> tuple[int, int, int]:
        """Where it stops paying: (strong scaling's last count that is half used, the least count
        within a twentieth of the fastest, weak scaling's last that is half used).

        Half used: the processors give at least half of what as many of them would by themselves.
        """
        half = [p for p in counts if self.strong(rows, p) >= p / 2]
        weak = [p for p in counts if self.weak(rows, p) >= p / 2]
        fastest = max(self.strong(rows, p) for p in counts)
        enough = [p for p in counts if self.strong(rows, p) >= 0.95 * fastest]
        return max(half), min(enough), max(weak)
