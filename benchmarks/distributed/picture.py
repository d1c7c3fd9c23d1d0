"""The picture: how many times faster P ranks are, by the model, for every net and network."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from typing import Any

from benchmarks.distributed.model import NETWORKS, RANKS, Network
from benchmarks.distributed.sections import costs

COLORS = ("#c9772b", "#2a6fbb", "#3a8f5c", "#8a5ba8", "#b04a5a")
HIDDEN = 0.5
"""The overlap of the dashed lines."""


def scaling(documents: dict[str, Any], networks: Sequence[Network] = NETWORKS) -> bytes | None:
    """As a PNG; None where nothing was measured."""
    from matplotlib.figure import Figure

    document = documents.get("distributed", {})
    part = document.get("distributed", {})
    nets = part.get("alone", {}).get("nets", {})
    if not nets:
        return None
    figure = Figure(figsize=(11, 4.4 * len(nets)), dpi=110, layout="constrained")
    grid = figure.subplots(len(nets), 2, squeeze=False)
    for line, (name, net) in zip(grid, nets.items(), strict=True):
        for axes, kind in zip(line, ("strong", "weak"), strict=True):
            _panel(axes, part, name, net, kind, networks)
    machine = document.get("machine", {}).get("processor", "")
    quick = document.get("run", {}).get("quick")
    figure.suptitle(
        f"Samples a second over one rank's, by the α-β model{'  A QUICK RUN' * bool(quick)}\n"
        f"steps measured on a core of {machine}; dotted: P times; "
        f"dashed: sums hide behind {HIDDEN:.0%} of a step",
        fontsize=11,
    )
    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _panel(
    axes: Any, part: Any, name: str, net: Any, kind: str, networks: Sequence[Network]
) -> None:
    batch = net["batch"]
    axes.plot(RANKS, RANKS, color="#777777", linestyle=":", linewidth=1)
    for k, network in enumerate(networks):
        for overlap, style in ((0.0, "-"), (HIDDEN, "--")):
            cost = costs(part, network, overlap)[name][1]
            values = [getattr(cost, kind)(batch, p) for p in RANKS]
            label = None if overlap else network.name
            axes.plot(RANKS, values, style, color=COLORS[k % len(COLORS)], label=label)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xticks(RANKS, [f"{p:,}" for p in RANKS], fontsize=8)
    axes.set_ylim(bottom=0.25)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axes.set_xlabel("ranks, a core each")
    rows = f"strong: batch {batch:,}" if kind == "strong" else f"weak: {batch:,} rows a rank"
    axes.set_title(f"{net['title']}\n{rows}", fontsize=10, loc="left", fontweight="bold")
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    if kind == "strong":
        axes.legend(fontsize=8, frameon=False)
