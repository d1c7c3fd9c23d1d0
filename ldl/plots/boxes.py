"""Boxes, and how they stand under and beside each other and are joined."""

from __future__ import annotations

from ldl.plots.axes import GREY, Axes, word

HIGH, GAP, SIDE = 0.56, 0.26, 0.5
"""Inches: a box's height, between two, and for what goes past a body."""

LETTER = 0.085
"""Inches that a letter takes at most."""


class Part:
    """Something of a width and a height that is drawn under a point."""

    width: float
    height: float
    framed = False
    """Whether a line that leads here goes on inside, without a head at the edge."""
    foot = 0.0
    """How far above its lower edge what it ends in does."""

    def draw(self, ax: Axes, x: float, top: float, scale: float) -> None:
        """Draw it under (x, top), words and lines by `scale` smaller."""
        raise NotImplementedError


class Box(Part):
    """A box of one or two lines."""

    def __init__(self, title: str, detail: str, colour: str) -> None:
        self.title, self.detail, self.colour = word(title, 40), word(detail, 48), colour
        longest = max(len(self.title), 0.9 * len(self.detail))
        self.width, self.height = max(1.6, LETTER * longest + 0.3), HIGH

    def draw(self, ax: Axes, x: float, top: float, scale: float) -> None:
        """Draw it under (x, top)."""
        from matplotlib.patches import FancyBboxPatch

        style = "round,pad=0,rounding_size=0.08"
        corner = x - self.width / 2, top - HIGH
        ax.add_patch(
            FancyBboxPatch(
                corner,
                self.width,
                HIGH,
                boxstyle=style,
                facecolor=f"{self.colour}22",
                edgecolor=self.colour,
                linewidth=1.2 * scale,
                zorder=2,
            )
        )
        middle = {"ha": "center", "va": "center", "zorder": 3, "parse_math": False}
        up = 0.11 if self.detail else 0.0
        ax.text(x, top - HIGH / 2 + up, self.title, fontsize=9 * scale, color="black", **middle)
        if self.detail:
            ax.text(
                x, top - HIGH / 2 - 0.13, self.detail, fontsize=8 * scale, color="#444444", **middle
            )


class Sum(Part):
    """A circle in which paths meet."""

    width = height = 0.3

    def __init__(self, sign: str) -> None:
        self.sign = sign
        self.width = 0.3 if len(sign) == 1 else LETTER * len(sign) + 0.3

    def draw(self, ax: Axes, x: float, top: float, scale: float) -> None:
        """Draw it under (x, top)."""
        from matplotlib.patches import FancyBboxPatch

        corner = x - self.width / 2, top - 0.3
        style = "round,pad=0,rounding_size=0.15"
        ax.add_patch(
            FancyBboxPatch(
                corner,
                self.width,
                0.3,
                boxstyle=style,
                facecolor="white",
                edgecolor=GREY,
                linewidth=1.2 * scale,
                zorder=2,
            )
        )
        ax.text(
            x,
            top - 0.155,
            self.sign,
            fontsize=9 * scale,
            color="black",
            ha="center",
            va="center",
            zorder=3,
        )


class Chain(Part):
    """Parts under each other, joined by arrows; with a name, in a frame."""

    def __init__(self, parts: list[Part], title: str = "") -> None:
        self.parts, self.title = parts, word(title, 40)
        self.pad = 0.18 if title else 0.0
        self.head = 0.24 if title else 0.0
        inside = sum(part.height for part in parts) + GAP * max(0, len(parts) - 1)
        self.width = (
            max([part.width for part in parts] + [LETTER * len(self.title)], default=1.0)
            + 2 * self.pad
        )
        self.height = inside + self.head + 2 * self.pad
        self.framed = bool(title) or (bool(parts) and parts[0].framed)
        self.foot = self.pad + (parts[-1].foot if parts else 0.0)

    def draw(self, ax: Axes, x: float, top: float, scale: float) -> None:
        """Draw them under (x, top)."""
        if self.title:
            _frame(ax, self, x, top, scale)
        y = top - self.pad - self.head
        if self.title and self.parts:
            _line(ax, [(x, top), (x, y)], scale, arrow=not self.parts[0].framed)
        for i, part in enumerate(self.parts):
            if i:
                above = y + GAP + self.parts[i - 1].foot
                _line(ax, [(x, above), (x, y)], scale, arrow=not part.framed)
            part.draw(ax, x, y, scale)
            y -= part.height + GAP


class Past(Part):
    """A body, and a line that goes past it on the right to a sum."""

    framed = True

    def __init__(self, body: Part) -> None:
        self.body, self.sum = body, Sum("+")
        self.width = body.width + 2 * SIDE
        self.height = GAP + body.height + GAP + self.sum.height

    def draw(self, ax: Axes, x: float, top: float, scale: float) -> None:
        """Draw it under (x, top)."""
        end = top - self.height
        side = x + self.body.width / 2 + 0.6 * SIDE
        fork = top - GAP / 2.5
        _line(ax, [(x, top), (x, top - GAP)], scale, arrow=not self.body.framed)
        self.body.draw(ax, x, top - GAP, scale)
        foot = top - GAP - self.body.height
        _line(ax, [(x, foot + self.body.foot), (x, foot - GAP)], scale, arrow=True)
        self.sum.draw(ax, x, foot - GAP, scale)
        middle = end + self.sum.height / 2
        _line(ax, [(x, fork), (side, fork), (side, middle), (x + 0.15, middle)], scale, arrow=True)


class Beside(Part):
    """Branches side by side, which part above and meet below."""

    framed = True

    def __init__(self, branches: list[Part], merge: str) -> None:
        self.branches, self.end = branches, Sum("+" if merge == "sum" else merge)
        self.width = sum(part.width for part in branches) + 0.3 * (len(branches) - 1)
        self.width = max(self.width, self.end.width)
        self.tallest = max(part.height for part in branches)
        self.height = 2 * GAP + self.tallest + 2 * GAP + self.end.height

    def draw(self, ax: Axes, x: float, top: float, scale: float) -> None:
        """Draw them under (x, top)."""
        bar, foot = top - GAP, top - 2 * GAP - self.tallest
        meet = foot - GAP
        _line(ax, [(x, top), (x, bar)], scale)
        inside = sum(part.width for part in self.branches) + 0.3 * (len(self.branches) - 1)
        left = x - inside / 2
        for part in self.branches:
            middle = left + part.width / 2
            _line(ax, [(x, bar), (middle, bar), (middle, bar - GAP)], scale, arrow=not part.framed)
            part.draw(ax, middle, bar - GAP, scale)
            _line(
                ax,
                [(middle, bar - GAP - part.height + part.foot), (middle, meet), (x, meet)],
                scale,
            )
            left += part.width + 0.3
        _line(ax, [(x, meet), (x, meet - GAP)], scale, arrow=True)
        self.end.draw(ax, x, meet - GAP, scale)


def _frame(ax: Axes, chain: Chain, x: float, top: float, scale: float) -> None:
    from matplotlib.patches import Rectangle

    corner = x - chain.width / 2, top - chain.height
    ax.add_patch(
        Rectangle(
            corner,
            chain.width,
            chain.height,
            facecolor="#f6f6f6",
            edgecolor="#bbbbbb",
            linewidth=scale,
            linestyle="--",
            zorder=0,
        )
    )
    ax.text(
        corner[0] + 0.1,
        top - 0.08,
        chain.title,
        fontsize=8 * scale,
        color=GREY,
        va="top",
        ha="left",
        zorder=3,
        parse_math=False,
    )


def _line(ax: Axes, points: list[tuple[float, float]], scale: float, arrow: bool = False) -> None:
    """A line through points, on whose end there may be an arrow's head."""
    xs, ys = zip(*points, strict=True)
    ax.plot(xs, ys, color=GREY, linewidth=1.1 * scale, solid_capstyle="butt", zorder=1)
    if arrow:
        (x0, y0), (x1, y1) = points[-2:]
        way = {
            "arrowstyle": "-|>",
            "color": GREY,
            "linewidth": 1.1 * scale,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 8 * scale,
        }
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
        back = min(0.1, length)
        tail = x1 - back * (x1 - x0) / length, y1 - back * (y1 - y0) / length
        ax.annotate("", xy=(x1, y1), xytext=tail, arrowprops=way, zorder=1)
