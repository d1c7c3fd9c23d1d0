"""Pictures: what stands in their axes, and that it can be read."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

import ldl
from checks import one_line
from ldl import nn, plots
from ldl.plots.axes import COLOURS

R = np.random.default_rng(0)
HISTORY = ldl.History(
    [
        {"epoch": i + 1, "loss": 1 / (i + 1), "val_loss": v, "lr": 0.1}
        for i, v in enumerate([0.9, 0.5, 0.4, 0.45])
    ]
)
IMAGES = R.random((20, 8, 8)).astype("float32")
NET = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1),
    nn.ReLU(),
    nn.Residual(nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())),
    nn.Parallel(nn.Conv2d(4, 2, 1), nn.Sequential(nn.Conv2d(4, 3, 1), nn.ReLU())),
    nn.Flatten(),
    nn.Sequential(nn.Linear(320, 5), nn.Dropout(0.2)),
)


def codes(n: int, dimensions: int = 2) -> Any:
    return np.random.default_rng(n + dimensions).normal(size=(n, dimensions))


def recorded() -> ldl.TrainStep:
    model = nn.Sequential(nn.Linear(8, 6), nn.Tanh(), nn.Dropout(0.2), nn.Linear(6, 8))
    step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.Adam(model))
    x = np.ones((5, 8), "float32")
    step(x, x)
    return step


DRAWN: dict[str, Any] = {
    "loss_curves": lambda ax=None: plots.loss_curves(HISTORY, ax),
    "loss_curves of one epoch": lambda ax=None: plots.loss_curves({"loss": [0.3]}, ax),
    "loss_curves, logarithmic": lambda ax=None: plots.loss_curves(HISTORY, ax, log=True, floor=0.1),
    "reconstructions": lambda ax=None: plots.reconstructions(
        {"clean": IMAGES, "a noisy one": IMAGES * 0.9}, ax, reference="clean", title="digits" * 30
    ),
    "reconstructions of curves": lambda ax=None: plots.reconstructions(
        {"in": codes(9, 30), "out": codes(9, 30)}, ax, count=3
    ),
    "latent_space": lambda ax=None: plots.latent_space(codes(50), np.arange(50) % 10, ax),
    "latent_space of texts": lambda ax=None: plots.latent_space(
        codes(60, 5), [f"a long name ${i % 20}$" for i in range(60)], ax
    ),
    "latent_space of numbers": lambda ax=None: plots.latent_space(codes(50), R.random(50), ax),
    "confusion_matrix": lambda ax=None: plots.confusion_matrix(
        [[5, 1], [0, 3000]], ["a name of many letters", "no"], ax
    ),
    "confusion_matrix of many": lambda ax=None: plots.confusion_matrix(
        R.integers(0, 50, (26, 26)), [f"letter {i} of all" for i in range(26)], ax
    ),
    "residuals": lambda ax=None: plots.residuals(codes(40)[:, 0], codes(40)[:, 0], ax, name="$p$"),
    "weights": lambda ax=None: plots.weights(nn.Linear(64, 20), ax),
    "weights of a convolution": lambda ax=None: plots.weights(NET, ax),
    "model_graph": lambda ax=None: plots.model_graph(NET, (8, 8, 1), ax),
    "plan": lambda ax=None: plots.plan(recorded(), ax),
    "model_graph of an autoencoder": lambda ax=None: plots.model_graph(
        nn.AutoEncoder.symmetric(64, [16, 2]), ax=ax
    ),
}


def texts(ax: Any) -> list[Text]:
    """All words that are seen in the figure; labels of ticks beyond an axis' ends are not."""
    figure = ax.get_figure(root=True)
    unseen = set()
    for axes in figure.findobj(Axes):
        for axis in (axes.xaxis, axes.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in [*axis.get_major_ticks(), *axis.get_minor_ticks()]:
                if not low <= tick.get_loc() <= high or not axes.axison:
                    unseen |= {id(tick.label1), id(tick.label2)}
    found = [
        text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()
    ]
    return [text for text in found if id(text) not in unseen]


def fault(draw: Any, *args: Any, error: type[Exception] = ValueError, **options: Any) -> str:
    with pytest.raises(error) as caught:
        draw(*args, **options)
    return one_line(caught)


# ---- all of them ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWN)
def test_all_words_stand_inside_the_picture(name: str) -> None:
    ax = DRAWN[name]()
    figure = ax.get_figure(root=True)
    assert to_hex(figure.get_facecolor()) == "#ffffff"
    figure.draw_without_rendering()
    page = figure.bbox
    assert page.width < 4600
    assert page.height < 4600
    outside = [
        t.get_text()
        for t in texts(ax)
        if (box := t.get_window_extent()).x0 < page.x0 - 1
        or box.x1 > page.x1 + 1
        or box.y0 < page.y0 - 1
        or box.y1 > page.y1 + 1
    ]
    assert outside == []


@pytest.mark.parametrize("name", DRAWN)
def test_words_are_dark_on_white_whatever_the_style(name: str, monkeypatch: Any) -> None:
    for key, value in style.library["dark_background"].items():
        monkeypatch.setitem(matplotlib.rcParams, key, value)
    ax = DRAWN[name]()
    ax.figure.draw_without_rendering()
    assert to_hex(ax.get_facecolor()) == "#ffffff"
    cells = {id(text) for text in ax.texts} if "confusion" in name else set()
    seen = [t for t in texts(ax) if id(t) not in cells]
    assert [t.get_text() for t in seen if sum(to_rgb(t.get_color())) > 1.5] == []


@pytest.mark.parametrize("name", DRAWN)
def test_axes_that_are_given_are_drawn_into_and_returned(name: str) -> None:
    ax = Figure().subplots()
    assert DRAWN[name](ax) is ax
    ax.figure.draw_without_rendering()
    assert ax.has_data() or ax.child_axes or ax.patches


@pytest.mark.parametrize("end", ["png", "svg", "pdf"])
def test_a_picture_is_written_to_a_file(tmp_path: Path, end: str) -> None:
    path = tmp_path / f"p.{end}"
    plots.save(plots.loss_curves(HISTORY), path)
    start = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}[end]
    assert path.read_bytes().startswith(start)
    assert ".png, .svg, .pdf" in fault(plots.save, plots.loss_curves(HISTORY), tmp_path / "p.xyz")


def test_threads_draw_at_once_and_pyplot_and_settings_are_left_alone(tmp_path: Path) -> None:
    before = dict(matplotlib.rcParams)
    names = ["loss_curves", "latent_space", "residuals", "weights"] * 2

    def draw(i: int) -> None:
        plots.save(DRAWN[names[i]](), tmp_path / f"{i}.png", dpi=40)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(draw, range(len(names))))
    assert len(list(tmp_path.iterdir())) == len(names)
    assert dict(matplotlib.rcParams) == before
    program = (
        "import sys; from ldl import plots; assert 'matplotlib' not in sys.modules;"
        "plots.save(plots.residuals([1, 2], [1, 3]), sys.argv[1]);"
        "assert 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "p.png")], check=True)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: Any) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'ldl[plot]'" in fault(plots.residuals, [1, 2], [1, 3], error=ImportError)


# ---- each of them --------------------------------------------------------------------------------


def test_curves_are_those_of_the_history() -> None:
    ax = plots.loss_curves(HISTORY)
    train, validation, best = ax.lines
    np.testing.assert_array_equal(train.get_ydata(), HISTORY["loss"])
    np.testing.assert_array_equal(validation.get_ydata(), HISTORY["val_loss"])
    assert list(train.get_xdata()) == [1, 2, 3, 4]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (3, 0.4)
    said = [t.get_text() for t in ax.get_legend().get_texts()]
    assert said == ["training  0.25", "validation  0.45", "best  0.4, epoch 3"]
    assert ax.get_xlabel() == "epoch"
    assert ax.get_ylabel() == "loss"
    assert ax.get_ylim()[0] == 0
    assert ax.get_ylim()[1] > 1.03
    assert len({line.get_color() for line in ax.lines[:2]} & set(COLOURS)) == 2


def test_curves_that_are_asked_for() -> None:
    ax = plots.loss_curves(HISTORY, names=["lr"], log=True, floor=0.05)
    assert [list(line.get_ydata()) for line in ax.lines] == [[0.1] * 4, [0.05, 0.05]]
    assert ax.get_yscale() == "log"
    ax = plots.loss_curves({"a": [1.0, 2.0], "b": [3.0]})
    assert [len(line.get_ydata()) for line in ax.lines] == [2, 1]
    assert "train first" in fault(plots.loss_curves, ldl.History())
    assert "there are: epoch" in fault(plots.loss_curves, HISTORY, names=["x"], error=KeyError)


def test_reconstructions_are_the_samples() -> None:
    noisy = np.clip(IMAGES + R.normal(0, 0.2, IMAGES.shape), 0, 1)
    rows = {"clean": IMAGES, "noisy": noisy}
    ax = plots.reconstructions(rows, count=5, reference="clean")
    cells = ax.child_axes
    assert len(cells) == 10
    for i in range(5):
        np.testing.assert_allclose(cells[i].images[0].get_array(), IMAGES[i])
        np.testing.assert_allclose(cells[5 + i].images[0].get_array(), noisy[i])
    psnr = -10 * np.log10(np.mean((noisy - IMAGES) ** 2))
    assert [c.get_ylabel() for c in cells if c.get_ylabel()] == ["clean", f"noisy\n{psnr:.1f} dB"]
    own = -10 * np.log10(np.mean((noisy[2] - IMAGES[2]) ** 2))
    assert cells[7].get_title() == f"{own:.1f} dB"
    assert cells[2].get_title() == ""


def test_rows_are_images_of_a_shape_or_curves() -> None:
    flat = IMAGES.reshape(20, 64)
    square = plots.reconstructions({"x": flat}, count=1).child_axes[0]
    assert square.images[0].get_array().shape == (8, 8)
    wide = plots.reconstructions({"x": flat}, count=1, shape=(4, 16)).child_axes[0]
    assert wide.images[0].get_array().shape == (4, 16)
    curve = plots.reconstructions({"x": flat}, shape=(), indices=[3]).child_axes[0]
    np.testing.assert_array_equal(curve.lines[0].get_ydata(), flat[3])
    colour = plots.reconstructions({"x": R.random((3, 5, 5, 3))}).child_axes[0]
    assert colour.images[0].get_array().shape == (5, 5, 3)
    assert "no image of shape (7, 7)" in fault(plots.reconstructions, {"x": flat}, shape=(7, 7))
    assert "of one size" in fault(plots.reconstructions, {"x": flat, "y": flat[:, :9]})
    assert "no row is named 'z'" in fault(plots.reconstructions, {"x": flat}, reference="z")


def test_codes_stand_where_they_are_in_the_colours_of_their_labels() -> None:
    points, labels = codes(40), np.arange(40) % 10
    ax = plots.latent_space(points, labels)
    assert len(ax.collections) == 10
    for i, drawn in enumerate(ax.collections):
        np.testing.assert_array_equal(drawn.get_offsets(), points[labels == i])
    looks = {
        (to_hex(drawn.get_facecolor()[0]), len(drawn.get_paths()[0].vertices))
        for drawn in ax.collections
    }
    assert len(looks) == 10
    assert [t.get_text() for t in ax.get_legend().get_texts()] == [str(i) for i in range(10)]


def test_codes_of_many_dimensions_are_projected() -> None:
    points = codes(200, 2) * [3.0, 1.0]
    turned = points @ np.linalg.qr(codes(5, 5))[0][:2] + 7
    ax = plots.latent_space(turned)
    found = ax.collections[0].get_offsets()
    centred = points - points.mean(axis=0)
    np.testing.assert_allclose(
        np.cov(found.T), np.diag(np.linalg.eigvalsh(np.cov(centred.T))[::-1]), atol=1e-9
    )
    assert "first principal direction (9" in ax.get_xlabel()
    assert "(N, 2)" in fault(plots.latent_space, codes(5, 1))
    assert "5 codes and 4 labels" in fault(plots.latent_space, codes(5), [1, 2, 3, 4])
    assert "cannot be told apart" in fault(plots.latent_space, codes(50), list(range(50)))


def test_a_confusion_matrix_says_its_counts() -> None:
    ax = plots.confusion_matrix([[8, 2], [1, 1000]], ["no", "yes"])
    assert [t.get_text() for t in ax.texts] == ["8", "2", "1", "1,000"]
    shares = ax.images[0].get_array()
    np.testing.assert_allclose(shares, [[0.8, 0.2], [1 / 1001, 1000 / 1001]])
    assert [t.get_text() for t in ax.get_xticklabels()] == ["no", "yes"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("predicted", "true")
    assert [t.get_color() for t in ax.texts[:2]] == ["white", "black"]
    assert not plots.confusion_matrix(np.eye(30)).texts
    assert np.isfinite(plots.confusion_matrix([[0, 0], [1, 2]]).images[0].get_array()).all()
    assert "(K, K)" in fault(plots.confusion_matrix, [[1, 2, 3]])
    assert "2 classes and 1 labels" in fault(plots.confusion_matrix, np.eye(2), ["a"])


def test_residuals_stand_against_the_prediction() -> None:
    truth, said = np.array([1.0, 2.0, 3.0]), np.array([1.5, 2.0, 2.0])
    ax = plots.residuals(truth, said, name="price")
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), [[1.5, 0.5], [2, 0], [2, -1]])
    rmse = np.sqrt(1.25 / 3)
    assert [line.get_ydata()[0] for line in ax.lines] == pytest.approx([0, rmse, -rmse])
    assert ax.get_xlabel() == "predicted price"
    assert "3 true numbers and 2 predicted" in fault(plots.residuals, truth, said[:2])


def test_weights_are_tiled_on_one_scale() -> None:
    layer = nn.Linear(9, 4)
    image = plots.weights(layer).images[0]
    sheet = image.get_array()
    weight = layer.weight.data
    assert sheet.shape == (7, 7)
    np.testing.assert_allclose(sheet[:3, :3], weight[:, 0].reshape(3, 3))
    np.testing.assert_allclose(sheet[4:, 4:], weight[:, 3].reshape(3, 3))
    assert sheet.mask[3].all()
    limit = float(np.abs(weight).max())
    assert (image.norm.vmin, image.norm.vmax) == (-limit, limit)
    kernels = R.normal(size=(3, 3, 2, 1))
    np.testing.assert_allclose(
        plots.weights(kernels).images[0].get_array(), kernels.sum(axis=2)[..., 0]
    )
    assert "no layer with a weight" in fault(plots.weights, nn.ReLU())
    assert "(in, units)" in fault(plots.weights, np.ones(3))


def test_a_graph_has_a_box_for_every_layer() -> None:
    ax = plots.model_graph(NET, (8, 8, 1))
    words = [t.get_text() for t in ax.texts if t.get_text()]
    for title, detail in (
        ("input", "N × 8 × 8 × 1"),
        ("Conv2d(1, 4, 3, padding=1)", "N × 8 × 8 × 4, 40 parameters"),
        ("Conv2d(4, 4, 3, padding=1)", "N × 8 × 8 × 4, 148 parameters"),
        ("Conv2d(4, 3, 1)", "N × 8 × 8 × 3, 15 parameters"),
        ("Flatten()", "N × 320"),
        ("Linear(320, 5)", "N × 5, 1,605 parameters"),
        ("Dropout(0.2)", "N × 5"),
    ):
        assert words[words.index(title) + 1] == detail
    assert "+" in words
    assert "concatenate" in words
    assert "Sequential" in words
    boxes = [p for p in ax.patches if isinstance(p, FancyBboxPatch)]
    assert len(boxes) == 10 + 2 + 1  # layers, and the input; a sum and a concatenation
    edges = [
        (b.get_x(), b.get_x() + b.get_width(), b.get_y(), b.get_y() + b.get_height()) for b in boxes
    ]
    for i, a in enumerate(edges):
        for b in edges[:i]:
            assert a[1] <= b[0] or b[1] <= a[0] or a[3] <= b[2] or b[3] <= a[2], "boxes overlap"


def test_words_of_a_graph_fit_their_boxes() -> None:
    ax = plots.model_graph(NET, (8, 8, 1))
    figure = ax.figure
    figure.draw_without_rendering()
    boxes = [p.get_window_extent() for p in ax.patches if isinstance(p, FancyBboxPatch)]
    for text in (t for t in ax.texts if t.get_text() and t.get_text() != "Sequential"):
        extent = text.get_window_extent()
        assert any(
            box.x0 <= extent.x0
            and extent.x1 <= box.x1
            and box.y0 <= extent.y0
            and extent.y1 <= box.y1
            for box in boxes
        ), text.get_text()


def test_shared_weights_are_counted_once_and_own_layers_are_one_box() -> None:
    tied = nn.AutoEncoder.symmetric(12, [4], tied=True)
    words = [t.get_text() for t in plots.model_graph(tied).texts]
    assert "N × 4, 52 parameters" in words
    assert "N × 12, 12 parameters" in words
    assert {"encoder", "decoder"} <= set(words)

    class Own(nn.Module):
        def __init__(self) -> None:
            self.inner = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))

        def forward(self, x: Any) -> Any:
            return self.inner(x)

    words = [t.get_text() for t in plots.model_graph(Own()).texts if t.get_text()]
    assert words == ["input", "N × 3", "Own()", "N × 1, 16 parameters"]
    assert "takes a model" in fault(plots.model_graph, "net", error=TypeError)


def test_a_plans_bars_are_the_values_of_each_piece_of_memory() -> None:
    step = recorded()
    ax = plots.plan(step)
    (recording,) = step.recordings().values()
    lines = recording.account()
    assert [text.get_text().partition(":")[0] for text in ax.get_yticklabels()] == [
        line.what for line in lines
    ]
    pieces = {p.memory for line in lines for p in (*line.reads, *line.writes)} - {None}
    assert len(ax.get_xticklabels()) == 1 + len(pieces)
    bars = [bar for bar in ax.patches if bar.get_height() > 0]
    assert len({round(bar.get_x() + 0.35) for bar in bars}) == len(pieces)
    for one in bars:
        beside = [bar for bar in bars if bar is not one and bar.get_x() == one.get_x()]
        for other in beside:
            low, high = sorted((one, other), key=lambda bar: bar.get_y())
            assert low.get_y() + low.get_height() <= high.get_y() + 0.71, "alive at once"


def test_a_step_that_was_not_recorded_has_no_plan() -> None:
    model = nn.Linear(3, 2)
    step = ldl.TrainStep(model, nn.MSELoss(), ldl.optim.SGD(model, lr=0.1))
    assert "nothing was recorded of this step: call it once" in fault(plots.plan, step)
