"""Pictures, by matplotlib: `pip install 'ldl[plot]'`.

    from ldl import plots

    ax = plots.loss_curves(history)
    plots.save(ax, "loss.png")

Every function draws into the axes `ax` that it is given and returns them, or axes of a figure of
its own, on a white ground. None touches pyplot or its settings, so that they work without a display
and in several threads. The colours are those that Okabe and Ito chose for all kinds of sight.
"""

from ldl.plots.axes import save
from ldl.plots.curves import loss_curves
from ldl.plots.graph import model_graph
from ldl.plots.images import reconstructions, weights
from ldl.plots.latent import latent_space
from ldl.plots.program import plan
from ldl.plots.scores import confusion_matrix, residuals

__all__ = [
    "confusion_matrix",
    "latent_space",
    "loss_curves",
    "model_graph",
    "plan",
    "reconstructions",
    "residuals",
    "save",
    "weights",
]
