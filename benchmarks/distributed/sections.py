"""The section of the report: what was measured, and what the model says of clusters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.distributed.model import NETWORKS, RANKS, Cost, Network, between, summing
from benchmarks.formats import seconds_text, table
from benchmarks.names import ALL, ALONE

Content = dict[str, Any]
SHOWN = tuple(p for p in RANKS if p == 1 or p >= 8)

MODEL = """\
With P ranks a step of B rows takes that of ⌈B/P⌉ rows and an all-reduce of every piece of the
gradients: of messages of α + n β seconds, adding up taking n γ, the lesser of recursive doubling,
⌈log2 P⌉ (α + n β + n γ), and Rabenseifner's algorithm, 2 ⌈log2 P⌉ α + (P-1)/P n (2 β + γ)
(Hockney 1994; Thakur, Rabenseifner and Gropp 2005). α and β are those of the networks named, which
were not there; γ and the time of rows are this processor's, one core a rank. Times as many samples
a second as one rank, and in brackets that over P, where OVERLAP:"""


def costs(part: Content, network: Network, overlap: float = 0.0) -> dict[str, tuple[Content, Cost]]:
    """By its name each net that was measured, and its steps over a network."""
    found = {}
    for name, net in part["alone"]["nets"].items():
        points = [(one["rows"], one["median"]) for one in net["steps"]]
        gamma = net["adding"]["median"] / net["bytes"]
        found[name] = net, Cost(between(points), net["pieces"], network, gamma, overlap)
    return found


def predicted(
    part: Content, networks: Sequence[Network] = NETWORKS, overlap: float = 0.0
) -> list[str]:
    """Strong and weak scaling of every net over every network, and where it stops paying."""
    hidden = f"sums hide behind {overlap:.0%} of a step" if overlap else "no sum hides"
    lines = MODEL.replace("OVERLAP", hidden + " behind backward" * (not overlap)).split("\n")
    for name, net in part["alone"]["nets"].items():
        batch = net["batch"]
        lines += ["", f"### {net['title']} on a cluster", ""]
        rows = [["network", "scaling", *(f"{p:,}" for p in SHOWN[1:])]]
        ends = []
        for network in networks:
            cost = costs(part, network, overlap)[name][1]
            for kind, text, times in (
                ("strong", f"strong, batch {batch:,}", cost.strong),
                ("weak", f"weak, {batch:,} a rank", cost.weak),
            ):
                cells = [speed(times(batch, p), p) for p in SHOWN[1:]]
                rows.append([network.name if kind == "strong" else "", text, *cells])
            half, enough, weak = cost.limits(batch)
            ends.append(f"- {network.name}: {ending(batch, half, enough, weak)}")
        lines += [*table(rows), "", "Where it stops paying:", "", *ends]
    return lines


def ending(batch: int, half: int, enough: int, weak: int) -> str:
    """Where it stops paying, in words."""
    strong = f"a batch of {batch:,} "
    if enough == 1:
        strong += "is not divided with profit"
    elif half == 1:
        strong += f"never uses half of its processors, and gains nothing beyond {enough:,} ranks"
    else:
        strong += f"uses half of its processors or more up to {half:,} ranks, and gains nothing "
        strong += f"beyond {enough:,}"
    rows = f"with {batch:,} rows a rank "
    if weak == 1:
        return f"{strong}; {rows}less than half is used too."
    return f"{strong}; {rows}half or more is used up to {weak:,}."


def speed(value: float, ranks: int) -> str:
    """Times as fast, and over the ranks."""
    return (
        f"{value:,.0f}" * (value >= 100)
        + f"{value:.3g}" * (value < 100)
        + f" ({value / ranks:.0%})"
    )


def measured(part: Content) -> list[str]:
    """What this machine's ranks took."""
    lines: list[str] = []
    pair = part.get("2 ranks")
    if pair:
        steps = pair["steps"]
        rows = [["", "median", "minimum", "samples a second", "times", "blocks"]]
        base = steps[ALONE]
        for name, one in steps.items():
            rate = f"{pair['batch'] / one['median']:,.0f}"
            times = f"{base['median'] / one['median']:.3f}, {base['minimum'] / one['minimum']:.3f}"
            cells = [seconds_text(one["median"]), seconds_text(one["minimum"]), rate, times]
            rows.append([name, *cells, str(one["blocks"])])
        lines += ["", f"Steps of {pair['batch']:,} rows on 2 ranks in turn; times as fast by "]
        lines[-1] += f"medians, minima; {max(pair['share']):.1%} of a step of both in sums, "
        lines[-1] += "waits for the other rank included:"
        lines += ["", *table(rows)]
    four = part.get("4 ranks")
    if four:
        lines += ["", "Four ranks on these processors, for the numbers only: a step takes "]
        lines[-1] += f"{seconds_text(four['steps'][ALL]['median'])}, "
        lines[-1] += f"{max(four['share']):.0%} of it in sums."
    return lines


def sums(part: Content) -> list[str]:
    """All-reduces, and the α and β fitted to them."""
    found = [part[name] for name in ("2 ranks", "4 ranks") if name in part]
    if not found:
        return []
    head = [text for one in found for text in (f"{one['ranks']} ranks: median", "minimum")]
    fit = part.get("fit")
    rows = [["bytes", *head, *["2 ranks by the model"] * bool(fit)]]
    for k, first in enumerate(found[0]["messages"]):
        cells = [one["messages"][k] for one in found]
        both = [seconds_text(c[key]) for c in cells for key in ("median", "minimum")]
        if fit:
            network = Network("", fit["latency"], fit["per_byte"])
            both.append(seconds_text(summing(2, first["bytes"], network, fit["gamma"])))
        rows.append([f"{first['bytes']:,}", *both])
    lines = ["", "All-reduces of float32, in place, the slowest rank's times:", "", *table(rows)]
    if fit:
        lines += ["", f"Of two ranks the model has α {seconds_text(fit['latency'])}, 1/β "]
        rate = 1e-9 / fit["per_byte"] if fit["per_byte"] else float("inf")
        lines[-1] += f"{rate:.3g} GB/s at γ {fit['gamma'] * 1e12:.3g} ps a byte, and is "
        lines[-1] += f"{fit['error']:.0%} off where it is worst: one β stands for every cache."
    return lines


def computing(part: Content) -> list[str]:
    """A step of one rank by its rows."""
    rows = [["rows", *(net["title"] for net in part["alone"]["nets"].values())]]
    nets = [
        {one["rows"]: one["median"] for one in n["steps"]} for n in part["alone"]["nets"].values()
    ]
    for count in sorted({n for net in nets for n in net}):
        cells = [seconds_text(net[count]) if count in net else "" for net in nets]
        rows.append([f"{count:,}", *cells])
    return ["", "A step on one processor, median:", "", *table(rows)]


def section(part: Content, documents: Content) -> list[str]:
    """All of it."""
    lines = ["## Several ranks", "", "Data-parallel training over MPI, a rank pinned to a core."]
    if "alone" not in part:
        return lines
    lines += [*measured(part), *sums(part), *computing(part), ""]
    return [*lines, *predicted(part), "", "![strong and weak scaling](scaling.png)"]
