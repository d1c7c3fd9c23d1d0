"""A further fit of a model goes on where the last one stopped; what begins anew begins clean."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest

import ldl
from ldl import nn, optim
from ldl.data import Arrays, GaussianNoise

rng = np.random.default_rng(0)
X = rng.random((40, 4)).astype("float32")
LABELS = (X[:, 0] > 0.5).astype("int64")
DATA = Arrays(X, LABELS, GaussianNoise(0.2))


def network() -> nn.Sequential:
    ldl.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.3), nn.Tanh(), nn.Linear(8, 2))


def adam(model: nn.Module, **options: Any) -> optim.Optimizer:
    return optim.Adam(model, lr=0.02, **options)


def fit(model: nn.Module, optimizer: optim.Optimizer, epochs: int = 1, **options: Any) -> Any:
    options = {"data": DATA, "batch_size": 16, **options}
    data = options.pop("data")
    return ldl.fit(model, data, nn.CrossEntropyLoss(), optimizer, epochs, **options)


def weights(model: nn.Module) -> dict[str, Any]:
    return {name: a.copy() for name, a in model.state_dict().items()}


def state(optimizer: optim.Optimizer) -> dict[str, Any]:
    return copy.deepcopy(optimizer.state_dict())


def same(a: Any, b: Any) -> bool:
    try:
        np.testing.assert_equal(a, b)
    except AssertionError:
        return False
    return True


class Interrupted:
    """Batches in whose third pass Ctrl-C is pressed."""

    passes = 0

    def __iter__(self) -> Any:
        self.passes += 1
        yield X[:20], LABELS[:20]
        if self.passes == 3:
            raise KeyboardInterrupt
        yield X[20:], LABELS[20:]


# ---- drawing on ----------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [(3, 2), (1, 1, 1, 1, 1), (4, 1)])
def test_several_fits_are_one_of_as_many_epochs_bit_for_bit(parts: tuple[int, ...]) -> None:
    whole, split = network(), network()
    a, b = (adam(model, schedule=optim.CosineLR(100)) for model in (whole, split))
    history = fit(whole, a, 5)
    losses = [loss for epochs in parts for loss in fit(split, b, epochs)["loss"]]
    np.testing.assert_equal(weights(split), weights(whole))
    np.testing.assert_equal(state(b), state(a))
    assert losses == history["loss"]


class Seen(nn.Module):
    """Remembers the batches that passed."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    def forward(self, x: Any) -> Any:
        if self.training:
            self.batches.append(x.copy())
        return x

    def backward(self, grad: Any) -> Any:
        return grad


@pytest.mark.filterwarnings("ignore:the step runs layer by layer")
@pytest.mark.parametrize("data", [(X, LABELS), DATA], ids=["order", "noise"])
def test_orders_noises_and_masks_are_drawn_on_also_with_a_new_optimizer(data: Any) -> None:
    seen, dropped = Seen(), Seen()
    model = nn.Sequential(seen, nn.Dropout(0.5), dropped, nn.Linear(4, 2))
    for _ in range(4):
        fit(model, optim.SGD(model, lr=0.0), data=data, batch_size=40)
    for batches in (seen.batches, [batch != 0 for batch in dropped.batches]):
        distinct = {batch.tobytes() for batch in batches}
        assert len(distinct) == 4


def test_a_new_model_begins_at_the_first_draw_whatever_was_fitted_before() -> None:
    first, second = network(), network()
    optimizer = adam(first)
    fit(first, optimizer, 2)
    fit(first, optimizer, 2)
    alone = network()
    fit(alone, adam(alone), 2)
    fit(second, adam(second), 2)
    np.testing.assert_equal(weights(second), weights(alone))


def test_every_seed_has_its_own_draws() -> None:
    mixed, plain = network(), network()
    a, b = optim.SGD(mixed, lr=0.0), optim.SGD(plain, lr=0.0)
    losses = [fit(mixed, a, seed=seed)["loss"][0] for seed in (0, 7, 0, 7, 0)]
    assert losses[::2] == fit(plain, b, 3, seed=0)["loss"]
    assert losses[1::2] == fit(plain, b, 2, seed=7)["loss"]
    assert len(set(losses)) == 5


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_goes_on_as_the_original_does(copied: Any) -> None:
    model = network()
    optimizer = adam(model)
    fit(model, optimizer, 2)
    twin, its = copied((model, optimizer))
    fit(model, optimizer, 2)
    fit(twin, its, 2)
    np.testing.assert_equal(weights(twin), weights(model))


def test_copies_of_a_new_model_are_new_models() -> None:
    base = network()
    results = []
    for _ in range(3):
        model = copy.deepcopy(base)
        fit(model, adam(model), 2)
        results.append(weights(model))
    np.testing.assert_equal(results[1], results[0])
    np.testing.assert_equal(results[2], results[0])


def test_a_loaded_model_is_a_new_model(tmp_path: Any) -> None:
    model = network()
    fit(model, adam(model), 2)
    ldl.save(model, tmp_path / "a.ldl")
    results = []
    for _ in range(2):
        loaded = ldl.load(tmp_path / "a.ldl")
        results.append(fit(loaded, adam(loaded), 2)["loss"])
    assert results[0] == results[1]
    assert results[0] != fit(model, adam(model), 2)["loss"]


def test_a_layer_more_keeps_the_draws_of_the_others() -> None:
    model = network()
    fit(model, adam(model), 2)
    fewer = nn.Sequential(model[0], model[2], model[3])
    model.layers = (model[0], nn.Dropout(0.1), *model.layers[1:])
    fit(model, adam(model))
    assert [model[i].stream.draw for i in (1, 2)] == [9, 3]
    model.layers = fewer.layers
    fit(model, adam(model))
    model.layers = (fewer[0], nn.Dropout(0.1), *fewer.layers[1:])
    fit(model, adam(model))
    assert model[1].stream.draw == 12


@pytest.mark.parametrize("where", ["epoch", "callback"])
def test_after_an_interrupt_the_next_fit_has_the_next_epochs_draws(where: str) -> None:
    model = network()
    optimizer = optim.SGD(model, lr=0.0)

    def batches() -> Any:
        yield X[:20], LABELS[:20]
        raise KeyboardInterrupt

    class Source:
        def __iter__(self) -> Any:
            return batches()

    def interrupt(run: ldl.Run) -> None:
        raise KeyboardInterrupt

    whole = [(X[:20], LABELS[:20])]
    options = {"data": Source()} if where == "epoch" else {"data": whole, "callbacks": interrupt}
    with pytest.raises(KeyboardInterrupt):
        fit(model, optimizer, **options)
    plain = network()
    once = optim.SGD(plain, lr=0.0)
    first = fit(plain, once, data=(X, LABELS))["loss"]
    assert fit(model, optimizer, data=(X, LABELS))["loss"] != first


@pytest.mark.filterwarnings("ignore:the step runs layer by layer")
@pytest.mark.parametrize(
    "kind", [list, tuple, lambda s: dict(enumerate(s))], ids=["list", "tuple", "dict"]
)
def test_streams_that_a_layer_holds_in_a_collection_are_the_fits_too(
    kind: Any, tmp_path: Any
) -> None:
    class Noisy(nn.Module):
        def __init__(self) -> None:
            self.streams = kind([ldl.random.next_stream(ldl.random.NOISE) for _ in range(2)])

        def forward(self, x: Any) -> Any:
            self.keep(None)
            for i in range(2 * self.training):
                draw = self.streams[i].next()
                x = x + self.backend.uniform(tuple(x.shape), "float32", draw)
            return x

        def backward(self, grad: Any) -> Any:
            self.take()
            return grad.copy()

    def build(seed: int) -> nn.Module:
        ldl.manual_seed(1)
        model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        ldl.manual_seed(seed)
        return nn.Sequential(model[0], Noisy(), model[1])

    path = tmp_path / "run.ckpt"
    whole, resumed, parts = build(1), build(2), build(3)
    first, b = build(4), adam(parts)
    fit(whole, adam(whole), 3)
    fit(first, adam(first), 2, checkpoint=path)
    fit(resumed, adam(resumed), 3, checkpoint=path, resume=True)
    for _ in range(3):
        fit(parts, b)
    np.testing.assert_equal(weights(resumed), weights(whole))
    np.testing.assert_equal(weights(parts), weights(whole))


WRAPPED: dict[str, Any] = {
    "slice": lambda m: m[:4],
    "nested": lambda m: nn.Sequential(m),
    "anew": lambda m: nn.Sequential(*m.layers),
}


@pytest.mark.parametrize("wrap", WRAPPED)
def test_a_model_made_anew_of_the_same_layers_goes_on(wrap: str) -> None:
    whole, parts = network(), network()
    a, b = adam(whole), adam(parts)
    history = fit(whole, a, 4)
    losses = [fit(WRAPPED[wrap](parts), b)["loss"][0] for _ in range(4)]
    assert losses == history["loss"]
    np.testing.assert_equal(weights(parts), weights(whole))


def test_parts_and_wholes_never_draw_the_same_twice() -> None:
    model = network()
    encoder = model[:3]
    code = (X, np.zeros((40, 8), "float32"))
    draws = set()
    for part, loss, y in ((encoder, nn.MSELoss(), code[1]), (model, nn.CrossEntropyLoss(), LABELS)):
        for _ in range(3):
            begun = model[1].stream.draw
            ldl.fit(part, (X, y), loss, optim.SGD(part, lr=0.0), 1, batch_size=40)
            draws.add(model[1].stream.draw)
            assert model[1].stream.draw == begun + 1
    assert draws == {1, 2, 3, 4, 5, 6}


def test_a_frozen_part_that_models_share_leaves_them_alone() -> None:
    shared = nn.Linear(4, 8)
    shared.requires_grad_(False)
    losses = []
    for _ in range(3):
        ldl.manual_seed(3)
        model = nn.Sequential(shared, nn.Dropout(0.3), nn.Linear(8, 2))
        losses.append(fit(model, adam(model), 2)["loss"])
    assert losses[0] == losses[1] == losses[2]


def masks(epochs: int, seed: int = 0, **options: Any) -> list[Any]:
    """What a dropout left of the samples, in every pass."""
    seen = Seen()
    model = nn.Sequential(nn.Dropout(0.5), seen, nn.Linear(4, 2))
    options = {"data": (1 + X, LABELS), "batch_size": 40, "seed": seed, **options}
    fit(model, optim.SGD(model, lr=0.0), epochs, **options)
    return [batch.tobytes() for batch in seen.batches]


@pytest.mark.filterwarnings("ignore:the step runs layer by layer")
@pytest.mark.parametrize("where", ["on_fit_begin", "on_epoch_end"])
@pytest.mark.parametrize("seed", [0, 5])
def test_a_fit_inside_a_fit_draws_on_and_disturbs_nothing(where: str, seed: int) -> None:
    class Inner(ldl.Callback):
        def tune(self, run: ldl.Run) -> None:
            inner = optim.SGD(run.model, lr=0.0)
            fit(run.model, inner, data=(1 + X, LABELS), batch_size=40, seed=seed)

    setattr(Inner, where, Inner.tune)
    found = masks(3, callbacks=Inner())
    own = {"on_fit_begin": [1, 2, 3], "on_epoch_end": [0, 2, 4]}[where]
    if seed == 0:
        assert found == masks(len(found))
    else:
        assert [found[i] for i in own] == masks(3)
        inner = [mask for i, mask in enumerate(found) if i not in own]
        assert inner == masks(len(inner), seed)


def test_a_refused_fit_draws_nothing() -> None:
    model, plain = network(), network()
    with pytest.raises(ValueError, match="val_loss"):
        fit(model, adam(model), callbacks=ldl.EarlyStopping("val_loss"))
    with pytest.raises(ValueError, match="metric"):
        fit(model, adam(model), metrics="nonsense")
    fit(model, adam(model), 2)
    fit(plain, adam(plain), 2)
    np.testing.assert_equal(weights(model), weights(plain))


def test_a_later_fit_resumes_bit_for_bit_too(tmp_path: Any) -> None:
    model = network()
    optimizer = adam(model)
    fit(model, optimizer, 3)
    path = tmp_path / "later.ckpt"
    fit(model, optimizer, 2, checkpoint=path)
    fit(model, optimizer, 2, checkpoint=path, resume=True)
    other = network()
    again = fit(other, adam(other), 4, checkpoint=path, resume=True)
    whole = network()
    history = fit(whole, adam(whole), 7)
    np.testing.assert_equal(weights(other), weights(whole))
    assert again["loss"] == history["loss"][3:]
    assert again["epoch"] == [1, 2, 3, 4]


def test_a_resumed_run_has_the_files_draws_whatever_was_fitted_since(tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    model, whole = network(), network()
    optimizer = adam(model)
    fit(model, optimizer, 3, checkpoint=path)
    fit(model, optimizer, 2)
    fit(model, optimizer, 5, checkpoint=path, resume=True)
    b = adam(whole)
    fit(whole, b, 5)
    np.testing.assert_equal(weights(model), weights(whole))
    fit(model, optimizer, 1)
    fit(whole, b, 1)
    np.testing.assert_equal(weights(model), weights(whole))


@pytest.mark.parametrize("where", ["callback", "batches"])
def test_an_interrupted_run_resumes_with_the_same_objects_too(where: str, tmp_path: Any) -> None:
    path = tmp_path / "run.ckpt"
    whole, broken = network(), network()
    a, b = adam(whole), adam(broken)
    stopping = ldl.EarlyStopping("loss", patience=9)
    source = Interrupted() if where == "batches" else DATA

    def interrupt(run: ldl.Run) -> None:
        if where == "callback" and run.epoch == 3:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"data": source, "checkpoint": path}
    with pytest.raises(KeyboardInterrupt):
        fit(broken, b, 5, callbacks=[stopping, interrupt], **options)
    resumed = fit(broken, b, 5, callbacks=stopping, resume=True, **options)
    data = list(source) if where == "batches" else DATA
    history = fit(whole, a, 5, data=data, callbacks=ldl.EarlyStopping("loss", patience=9))
    np.testing.assert_equal(weights(broken), weights(whole))
    np.testing.assert_equal(state(b), state(a))
    assert resumed["loss"] == history["loss"]


def test_early_stopping_begins_anew_in_every_fit() -> None:
    stopping = ldl.EarlyStopping("score", mode="min", patience=2)
    figures = iter([1.0, 2.0, 3.0, np.nan, np.nan, 5.0, 6.0, 7.0])

    def score(run: ldl.Run) -> None:
        run.history.rows[-1]["score"] = next(figures)

    lengths, best = [], []
    for _ in range(3):
        model = network()
        lengths.append(len(fit(model, adam(model), 9, callbacks=[score, stopping])))
        best.append((stopping.best, stopping.best_epoch, bool(stopping.weights)))
    assert lengths == [3, 2, 3]
    assert best == [(1.0, 1, True), (np.inf, 0, False), (5.0, 1, True)]


def test_many_small_fits_learn_as_one_does() -> None:
    x = rng.random((64, 8)).astype("float32")
    data = Arrays(x, noise=GaussianNoise(0.5))

    def build() -> nn.Module:
        ldl.manual_seed(2)
        return nn.AutoEncoder.symmetric(8, [16])

    losses = []
    for calls, epochs in ((40, 1), (1, 40)):
        model = build()
        optimizer = optim.Adam(model, lr=1e-2)
        for _ in range(calls):
            ldl.fit(model, data, nn.MSELoss(), optimizer, epochs)
        losses.append(ldl.evaluate(model, data, nn.MSELoss(), seed=9)["loss"])
    assert losses[0] == losses[1]


def test_an_optimizer_of_two_models_moves_the_one_that_is_fitted() -> None:
    a, b, c, d = (network() for _ in range(4))
    both = optim.Adam([*a.parameters(), *b.parameters()], lr=0.02)
    own = adam(c), adam(d)
    for _ in range(2):
        fit(a, both)
        before = weights(a), weights(b)
        for p in a.parameters():
            p.accumulate(np.ones(p.shape, "float32"))
        fit(b, both)
        np.testing.assert_equal(weights(a), before[0])
        fit(c, own[0])
        fit(d, own[1])
    np.testing.assert_equal(weights(a), weights(c))
    np.testing.assert_equal(weights(b), weights(d))


# ---- after a divergence --------------------------------------------------------------------------


class Poison:
    """Batches of which one of an epoch makes the loss infinite, as often as it is asked to."""

    def __init__(self, epochs: set[int]) -> None:
        self.epochs, self.passes = epochs, 0

    def __iter__(self) -> Any:
        self.passes += 1
        for start in (0, 20):
            x = X[start : start + 20].copy()
            if start and self.passes in self.epochs:
                x[0] = np.nan
            yield x, LABELS[start : start + 20]


MAKES: dict[str, Any] = {
    "SGD": lambda m: optim.SGD(m, lr=0.1),
    "momentum": lambda m: optim.SGD(m, lr=0.1, momentum=0.9),
    "Adam": lambda m: optim.Adam(m, lr=0.02),
    "AdamW": lambda m: optim.AdamW(m, lr=0.02, schedule=optim.CosineLR(100)),
    "RMSprop": lambda m: optim.RMSprop(m, lr=0.01, momentum=0.5),
    "AMSGrad": lambda m: optim.Adam(m, lr=0.02, amsgrad=True),
    "NAdam": lambda m: optim.NAdam(m, lr=0.02),
    "Lion": lambda m: optim.Lion(m, lr=0.002),
    "plateau": lambda m: optim.Adam(
        m, lr=0.02, schedule=optim.WarmupLR(3, optim.ReduceLROnPlateau(0.5, patience=0))
    ),
    "groups": lambda m: optim.Adam(
        [{"params": m[0].parameters(), "lr": 0.1}, {"params": m[3].parameters()}], lr=0.02
    ),
}


@pytest.mark.parametrize("make", MAKES)
@pytest.mark.parametrize("epoch", [1, 3])
def test_after_a_divergence_all_is_as_at_the_epochs_start(make: str, epoch: int) -> None:
    model = network()
    optimizer = MAKES[make](model)
    then: list[Any] = []
    draws: list[Any] = []

    class Watch(ldl.Callback):
        def on_fit_begin(self, run: ldl.Run) -> None:
            self.run = run
            self.on_epoch_end(run)

        def on_epoch_end(self, run: ldl.Run) -> None:
            then.append((weights(model), state(optimizer)))
            draws.append([stream.draw for stream in run.streams])

    watch = Watch()

    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError) as error:
        fit(model, optimizer, 9, data=Poison({epoch}), callbacks=watch)
    assert error.value.epoch == epoch
    before, moments = then[-1]
    assert [stream.draw for stream in watch.run.streams] == draws[-1]
    np.testing.assert_equal(weights(model), before)
    now = state(optimizer)
    slots = moments.pop("slots")
    for name, array in now.pop("slots").items():
        np.testing.assert_array_equal(array, slots.get(name, np.zeros_like(array)))
    assert now == moments


@pytest.mark.parametrize("make", MAKES)
def test_the_advice_after_a_divergence_works(make: str) -> None:
    model, plain = network(), network()
    a, b = MAKES[make](model), MAKES[make](plain)
    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError) as error:
        fit(model, a, 6, data=Poison({3}))
    assert len(error.value.history) == 2
    fit(plain, b, 2, data=Poison(set()))
    for optimizer in (a, b):
        optimizer.param_groups[0]["lr"] *= 0.5
    fit(model, a, 3, data=Poison(set()))
    fit(plain, b, 3, data=Poison(set()))
    np.testing.assert_equal(weights(model), weights(plain))


class Slow(optim.SGD):
    """One of a user's own, whose state is of numbers, lists and arrays that it hands out."""

    def __init__(self, params: Any) -> None:
        super().__init__(params, lr=0.1)
        self.slow: Any = 0.0
        self.kept, self.sums = np.zeros(2), [0.0]

    def step(self) -> None:
        super().step()
        found = float(self.param_groups[0]["params"][0].data.sum())
        self.slow = 0.9 * self.slow + 0.1 * found
        self.kept += found
        self.sums[0] += found

    def state_dict(self) -> dict[str, Any]:
        own = {"slow": self.slow, "kept": self.kept, "sums": self.sums}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        state = dict(state)
        self.slow, self.kept, self.sums = (state.pop(name) for name in ("slow", "kept", "sums"))
        super().load_state_dict(state)


def test_an_optimizer_of_ones_own_is_put_back_by_its_own_state() -> None:
    model = network()
    optimizer = Slow(model)
    held: list[Any] = []

    def look(run: ldl.Run) -> None:
        held.append(state(optimizer))

    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError):
        fit(model, optimizer, 9, data=Poison({2}), callbacks=look)
    assert optimizer.step_count == 2
    np.testing.assert_equal(state(optimizer), held[-1])
    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError):
        fit(model, optimizer, 9, data=Poison({1}))
    np.testing.assert_equal(state(optimizer), held[-1])


def test_weights_that_are_nan_from_the_beginning_are_a_divergence() -> None:
    model = network()
    model[0].weight.data[...] = np.nan
    with pytest.raises(ldl.DivergedError, match="the loss is not finite at epoch 1, batch 1"):
        fit(model, adam(model))


def test_weights_whose_squares_overflow_are_finite() -> None:
    model = nn.Linear(4, 1)
    model.weight.data[...] = 1e25
    history = ldl.fit(model, (0 * X, X[:, :1]), nn.MSELoss(), optim.SGD(model), 1)
    assert len(history) == 1


REFUSED: dict[str, Any] = {
    "a label": (X[20:], LABELS[20:] + 7),
    "no pair": (X[20:],),
    "no batch": None,
    "lengths": (X[20:], LABELS[:3]),
    "features": (X[20:, :2], LABELS[20:]),
    "complex": (X[20:] * 1j, LABELS[20:]),
    "texts": (X[20:].astype(str), LABELS[20:]),
    "masked": (np.ma.masked_array(X[20:], mask=True), LABELS[20:]),
    "floats for labels": (X[20:], LABELS[20:] + 0.5),
    "empty": (X[:0], LABELS[:0]),
}


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize("bad", REFUSED)
def test_an_epoch_that_is_refused_has_not_begun(bad: str, where: str) -> None:
    model, plain = network(), network()
    a, b = adam(model), adam(plain)

    class Sometimes:
        passes = 0

        def __iter__(self) -> Any:
            self.passes += 1
            yield X[:20], LABELS[:20]
            yield REFUSED[bad] if self.passes == 2 else (X[20:], LABELS[20:])

    good: Any = [(X[:20], LABELS[:20]), (X[20:], LABELS[20:])]
    data, held_out = (good, Sometimes()) if where == "validation" else (Sometimes(), good)
    with pytest.raises((ValueError, TypeError)):
        fit(model, a, 3, data=data, validation=held_out)
    fit(plain, b, 1, data=good)
    np.testing.assert_equal(weights(model), weights(plain))
    np.testing.assert_equal(state(a), state(b))
    for m, o in ((model, a), (plain, b)):
        fit(m, o, 2, data=DATA)
    np.testing.assert_equal(weights(model), weights(plain))


def test_moments_that_overflow_are_a_divergence_since_weights_would_stand_still() -> None:
    ldl.manual_seed(0)
    model = nn.Linear(4, 1)
    loss = nn.MSELoss()
    with np.errstate(all="ignore"), pytest.raises(ldl.DivergedError, match="state") as error:
        ldl.fit(model, (1e15 * X, X[:, :1]), loss, optim.Adam(model, lr=1e-30), 2, batch_size=20)
    assert "\n" not in str(error.value)
