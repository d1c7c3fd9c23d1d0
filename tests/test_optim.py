"""Optimizers do what their formulas say, to all parameters at once, and survive what models do."""

import copy
from importlib.util import find_spec
from math import sqrt

import numpy as np
import pytest

import ldl
from ldl import nn, optim

# Each row: how ldl makes it, one scalar step by the formula (p, g, state, t) -> p, how torch does.


def sgd(p, g, s, t, lr=0.1, mu=0.0, nesterov=False, decay=0.0, damp=0.0):
    g += decay * p
    s["v"] = mu * s["v"] + (1 - damp) * g if "v" in s else g
    return p - lr * (g + mu * s["v"] if nesterov else s["v"])


def rmsprop(p, g, s, t, lr=0.01, alpha=0.9, eps=1e-6, mu=0.0, decay=0.0, centered=False):
    g += decay * p
    s["s"] = alpha * s.get("s", 0.0) + (1 - alpha) * g * g
    s["a"] = alpha * s.get("a", 0.0) + (1 - alpha) * g
    s["v"] = mu * s.get("v", 0.0) + g / (sqrt(s["s"] - centered * s["a"] ** 2) + eps)
    return p - lr * s["v"]


def adagrad(p, g, s, t, lr=0.1, lr_decay=0.0, decay=0.0, initial=0.0, eps=1e-6):
    g += decay * p
    s["s"] = s.get("s", initial) + g * g
    return p - lr / (1 + (t - 1) * lr_decay) * g / (sqrt(s["s"]) + eps)


def averages(p, g, s, lr, b1, b2, decay, decoupled):
    if decoupled:
        p -= lr * decay * p
    else:
        g += decay * p
    s["m"] = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["v"] = b2 * s.get("v", 0.0) + (1 - b2) * g * g
    return p, g


def adam(p, g, s, t, lr=0.01, b1=0.9, b2=0.99, eps=1e-6, decay=0.0, decoupled=False, ams=False):
    p, g = averages(p, g, s, lr, b1, b2, decay, decoupled)
    s["h"] = max(s.get("h", 0.0), s["v"])
    v = s["h"] if ams else s["v"]
    return p - lr * (s["m"] / (1 - b1**t)) / (sqrt(v / (1 - b2**t)) + eps)


def nadam(p, g, s, t, lr=0.01, b1=0.9, b2=0.99, eps=1e-6, decay=0.0, decoupled=False, psi=4e-3):
    p, g = averages(p, g, s, lr, b1, b2, decay, decoupled)
    mu, after = (b1 * (1 - 0.5 * 0.96 ** (i * psi)) for i in (t, t + 1))
    s["product"] = s.get("product", 1.0) * mu
    ahead = (1 - mu) * g / (1 - s["product"]) + after * s["m"] / (1 - s["product"] * after)
    return p - lr * ahead / (sqrt(s["v"] / (1 - b2**t)) + eps)


def radam(p, g, s, t, lr=0.01, b1=0.9, b2=0.9, eps=1e-6, decay=0.0, decoupled=False):
    p, g = averages(p, g, s, lr, b1, b2, decay, decoupled)
    most = 2 / (1 - b2) - 1
    now = most - 2 * t * b2**t / (1 - b2**t)
    m = s["m"] / (1 - b1**t)
    if now <= 5:
        return p - lr * m
    rectified = sqrt((now - 4) * (now - 2) * most / ((most - 4) * (most - 2) * now))
    return p - lr * m * rectified * sqrt(1 - b2**t) / (sqrt(s["v"]) + eps)


def lion(p, g, s, t, lr=0.01, b1=0.9, b2=0.99, decay=0.0):
    c = b1 * s.get("m", 0.0) + (1 - b1) * g
    s["m"] = b2 * s.get("m", 0.0) + (1 - b2) * g
    return p - lr * ((c > 0) - (c < 0) + decay * p)


A = {"lr": 0.01, "betas": (0.9, 0.99), "eps": 1e-6}
R = {"lr": 0.01, "alpha": 0.9, "eps": 1e-6}
G = {"lr": 0.1, "eps": 1e-6}
B = {"lr": 0.01, "betas": (0.9, 0.9), "eps": 1e-6}
CASES = {
    "sgd": ("SGD", {"lr": 0.1}, sgd, {}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}, sgd, {"mu": 0.9}),
    "nesterov": (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1},
        sgd,
        {"mu": 0.9, "nesterov": True, "decay": 0.1},
    ),
    "sgd decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}, sgd, {"decay": 0.1}),
    "rmsprop": ("RMSprop", R, rmsprop, {}),
    "rmsprop momentum": (
        "RMSprop",
        {**R, "momentum": 0.5, "weight_decay": 0.1},
        rmsprop,
        {"mu": 0.5, "decay": 0.1},
    ),
    "adam": ("Adam", A, adam, {}),
    "adam decay": ("Adam", {**A, "weight_decay": 0.1}, adam, {"decay": 0.1}),
    "adamw": ("AdamW", {**A, "weight_decay": 0.1}, adam, {"decay": 0.1, "decoupled": True}),
    "dampening": (
        "SGD",
        {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
        sgd,
        {"mu": 0.9, "damp": 0.3, "decay": 0.1},
    ),
    "rmsprop centered": (
        "RMSprop",
        {**R, "centered": True, "momentum": 0.5},
        rmsprop,
        {"centered": True, "mu": 0.5},
    ),
    "amsgrad": ("Adam", {**A, "amsgrad": True}, adam, {"ams": True}),
    "adamw amsgrad": (
        "AdamW",
        {**A, "amsgrad": True, "weight_decay": 0.1},
        adam,
        {"ams": True, "decay": 0.1, "decoupled": True},
    ),
    "adagrad": ("Adagrad", G, adagrad, {}),
    "adagrad decay": (
        "Adagrad",
        {**G, "lr_decay": 0.1, "weight_decay": 0.1, "initial_accumulator_value": 0.2},
        adagrad,
        {"lr_decay": 0.1, "decay": 0.1, "initial": 0.2},
    ),
    "nadam": ("NAdam", A, nadam, {}),
    "nadam decay": (
        "NAdam",
        {**A, "weight_decay": 0.1, "momentum_decay": 0.02},
        nadam,
        {"decay": 0.1, "psi": 0.02},
    ),
    "nadam decoupled": (
        "NAdam",
        {**A, "weight_decay": 0.1, "decoupled_weight_decay": True},
        nadam,
        {"decay": 0.1, "decoupled": True},
    ),
    "radam": ("RAdam", B, radam, {}),
    "radam slow": ("RAdam", A, radam, {"b2": 0.99}),
    "radam never": ("RAdam", {**B, "betas": (0.9, 0.5)}, radam, {"b2": 0.5}),
    "radam decay": ("RAdam", {**B, "weight_decay": 0.1}, radam, {"decay": 0.1}),
    "radam decoupled": (
        "RAdam",
        {**B, "weight_decay": 0.1, "decoupled_weight_decay": True},
        radam,
        {"decay": 0.1, "decoupled": True},
    ),
    "lion": ("Lion", {"lr": 0.01}, lion, {}),
    "lion decay": ("Lion", {"lr": 0.01, "weight_decay": 0.1}, lion, {"decay": 0.1}),
}
CASES |= {
    f"{name}, maximized": (kind, {**options, "maximize": True}, formula, {**constants, "sign": -1})
    for name, (kind, options, formula, constants) in CASES.items()
    if name
    in (*("nesterov", "rmsprop", "adam decay", "adamw"), *("adagrad", "nadam", "lion decay"))
}
cases = pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))


def parameters(dtype="float64"):
    rng = np.random.default_rng(0)
    return [nn.Parameter(rng.normal(size=shape).astype(dtype)) for shape in [(3, 5), (7,), (2, 2)]]


def gradients(steps=12, dtype="float64"):
    rng = np.random.default_rng(1)
    shapes = [(3, 5), (7,), (2, 2)]
    return [[rng.normal(size=s).astype(dtype) for s in shapes] for _ in range(steps)]


def train(optimizer, params, grads):
    for step in grads:
        optimizer.zero_grad()
        for p, g in zip(params, step, strict=True):
            p.accumulate(g)
        optimizer.step()


@cases
def test_a_step_is_its_formula_applied_to_every_number(case):
    name, options, formula, constants = case
    constants = dict(constants)
    sign = constants.pop("sign", 1)
    params = parameters()
    expected = [p.data.copy() for p in params]
    grads = gradients()
    train(getattr(optim, name)(params, **options), params, grads)
    for i, array in enumerate(expected):
        for index in np.ndindex(array.shape):
            p, state = float(array[index]), {}
            for t, step in enumerate(grads, start=1):
                p = formula(p, sign * float(step[i][index]), state, t, **constants)
            assert params[i].data[index] == pytest.approx(p, rel=1e-12)


@pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed")
@cases
def test_steps_agree_with_pytorch(case):
    import torch

    name, options, _, _ = case
    if not hasattr(torch.optim, name):
        assert name == "Lion"  # which optax has
        return
    params = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(p.data.copy())) for p in params]
    grads = gradients(40)
    train(getattr(optim, name)(params, **options), params, grads)
    single = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta
    try:
        rival = getattr(torch.optim, name)(theirs, **options)
        for step in grads:
            for q, g in zip(theirs, step, strict=True):
                q.grad = torch.tensor(g)
            rival.step()
    finally:
        torch.set_default_dtype(single)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.data, q.detach().numpy(), rtol=1e-11)


TINY = {"eps": 1e-30}  # which optax adds elsewhere
RIVALS = {
    "lion": lambda o: o.lion(0.01, b1=0.9, b2=0.99, weight_decay=0.0),
    "lion decay": lambda o: o.lion(0.01, b1=0.9, b2=0.99, weight_decay=0.1),
    "radam": lambda o: o.radam(0.01, b1=0.9, b2=0.9, eps=1e-30),
    "adagrad": lambda o: o.adagrad(0.1, initial_accumulator_value=0.0, eps=1e-30),
    "adam": lambda o: o.adam(0.01, b1=0.9, b2=0.99, eps=1e-30),
    "rmsprop centered": lambda o: o.rmsprop(
        0.01, decay=0.9, eps=1e-30, centered=True, momentum=0.5, eps_in_sqrt=False
    ),
}


@pytest.mark.parametrize("name", RIVALS)
def test_steps_agree_with_optax(name):
    import jax
    import optax

    kind, options, _, _ = CASES[name]
    with jax.enable_x64(True):
        params = parameters()
        theirs = [p.data.copy() for p in params]
        grads = gradients(40)
        rival = RIVALS[name](optax)
        state = rival.init(theirs)
        for step in grads:
            updates, state = rival.update(step, state, theirs)
            theirs = optax.apply_updates(theirs, updates)
    options = options if "lion" in name else options | TINY
    train(getattr(optim, kind)(params, **options), params, grads)
    for p, q in zip(params, theirs, strict=True):
        np.testing.assert_allclose(p.data, q, rtol=1e-9)


@cases
def test_float32_stays_float32_with_numpy_scalars_as_options(case):
    name, options, _, _ = case
    options = {k: np.float64(v) if type(v) is float else v for k, v in options.items()}
    params = parameters("float32")
    optimizer = getattr(optim, name)(params, **options, clip_norm=np.float64(1.0))
    train(optimizer, params, gradients(2, "float32"))
    state = optimizer.state_dict()["slots"]
    assert {str(a.dtype) for a in state.values()} <= {"float32"}
    assert all(p.data.dtype == "float32" and np.isfinite(p.data).all() for p in params)


@cases
def test_a_restored_optimizer_goes_on_bit_for_bit(case):
    name, options, _, _ = case
    grads = gradients()
    whole = parameters()
    train(getattr(optim, name)(whole, **options), whole, grads)

    half = parameters()
    first = getattr(optim, name)(half, **options)
    train(first, half, grads[:6])
    saved = copy.deepcopy(first.state_dict())
    again = [nn.Parameter(p.data.copy()) for p in half]
    second = getattr(optim, name)(again, **options)
    second.load_state_dict(saved)
    train(second, again, grads[6:])
    for p, q in zip(whole, again, strict=True):
        np.testing.assert_array_equal(p.data, q.data)


@cases
def test_numbers_that_change_from_step_to_step_prepare_nothing_anew(case):
    name, options, _, _ = case
    params = parameters()
    optimizer = getattr(optim, name)(params, **options, schedule=optim.CosineLR(100))
    (group,) = optimizer.param_groups
    prepared = []
    for i, grads in enumerate(gradients(10)):
        group["lr"] *= 0.9
        if "betas" in group:
            group["betas"] = [0.9 - 0.01 * i, group["betas"][1]]
        train(optimizer, params, [grads])
        prepared.append(sorted(map(str, optimizer._updates.prepared._held)))
    assert len(prepared[0]) > 0
    assert all(keys == prepared[0] for keys in prepared)


def test_a_centered_rmsprop_divides_by_no_root_of_less_than_nothing():
    for dtype in ("float32", "float64"):
        p = nn.Parameter(np.zeros(64, dtype))
        optimizer = optim.RMSprop([p], centered=True, eps=1e-3)
        for _ in range(400):
            p.zero_grad()
            p.accumulate(np.linspace(0.1, 3, 64).astype(dtype))  # s - a² is all rounding
            optimizer.step()
        assert np.isfinite(p.data).all()


def test_nadams_products_of_momenta_are_no_state():
    params, again = parameters(), parameters()
    a, b = (optim.NAdam(p, betas=(0.99, 0.999)) for p in (params, again))
    grads = gradients(3)
    for optimizer in (a, b):
        state = optimizer.state_dict()
        state["param_steps"] = [5000] * 3
        optimizer.load_state_dict(state)
    assert a._product(0.99, 4e-3, 7) == b._product(0.99, 4e-3, 7)
    train(a, params, grads)
    train(b, again, grads)
    for p, q in zip(params, again, strict=True):
        np.testing.assert_array_equal(p.data, q.data)
    assert a._product(0.99, 4e-3, 10**9) == 0.0
    assert len(a._products[0.99, 4e-3]) < 10**4
    for i in range(100):
        a._product(0.9, i * 1e-3, 2)
    assert len(a._products) < 20


def test_maximize_climbs_and_may_be_turned_between_steps():
    p = nn.Parameter(np.zeros(3))
    optimizer = optim.SGD([p], lr=1.0, maximize=True)
    for expected in (1.0, 0.0):
        p.zero_grad()
        p.accumulate(np.ones(3))
        optimizer.step()
        np.testing.assert_array_equal(p.data, expected)
        optimizer.param_groups[0]["maximize"] = False


def test_a_state_that_does_not_fit_lists_every_fault_and_changes_nothing():
    params = parameters()
    optimizer = optim.Adam(params)
    train(optimizer, params, gradients(1))
    state = copy.deepcopy(optimizer.state_dict())
    before = copy.deepcopy(state)
    del state["slots"]["0.exp_avg"]
    state["slots"]["1.exp_avg"] = np.zeros(3)
    state["slots"]["9.exp_avg"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"missing 0.exp_avg.*unexpected 9.exp_avg.*shape") as e:
        optimizer.load_state_dict(state)
    assert "\n" not in str(e.value)
    for name, array in optimizer.state_dict()["slots"].items():
        np.testing.assert_array_equal(array, before["slots"][name])


# ---- the flat store ------------------------------------------------------------------------------


def test_an_optimizer_packs_its_parameters_into_one_buffer():
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    before = {k: v.copy() for k, v in model.state_dict().items()}
    optim.Adam(model)
    bases = {id(p.data.base) for p in model.parameters()}
    assert len(bases) == 1
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert array.__array_interface__["data"][0] % 16 == 0


def step_of(model, optimizer, seed):
    x = np.random.default_rng(seed).normal(size=(6, 3)).astype(model.dtype)
    loss = nn.MSELoss()
    return ldl.TrainStep(model, loss, optimizer)(x, np.zeros((6, 2), model.dtype))


def net():
    ldl.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))


def test_training_goes_on_through_moves_and_loads():
    plain, moved = net(), net()
    a, b = optim.Adam(plain, lr=0.1), optim.Adam(moved, lr=0.1)
    for seed in range(6):
        step_of(plain, a, seed)
        step_of(moved, b, seed)
        if seed == 1:
            moved.to("numpy", dtype="float32")
        if seed == 2:
            moved.load_state_dict({k: v.copy() for k, v in moved.state_dict().items()})
        if seed == 3:
            for p in moved.parameters():
                p.data = p.data.copy()
    for p, q in zip(plain.parameters(), moved.parameters(), strict=True):
        np.testing.assert_array_equal(p.data, q.data)


def test_changing_the_type_of_a_model_takes_the_optimizer_along():
    model = net()
    optimizer = optim.Adam(model, lr=0.1)
    step_of(model, optimizer, 0)
    slots = {k: v.copy() for k, v in optimizer.state_dict()["slots"].items()}
    model.to(dtype="float64")
    step_of(model, optimizer, 1)
    after = optimizer.state_dict()["slots"]
    assert all(p.data.dtype == "float64" for p in model.parameters())
    assert all(a.dtype == "float64" for a in after.values())
    m = slots["0.exp_avg"]
    g = model[0].weight.grad
    np.testing.assert_allclose(after["0.exp_avg"], 0.9 * m + 0.1 * g, rtol=1e-6)


def test_frozen_parameters_and_their_state_do_not_move():
    model = net()
    optimizer = optim.Adam(model, lr=0.1, weight_decay=0.1)
    step_of(model, optimizer, 0)
    model[0].requires_grad_(False)
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()["slots"]))
    step_of(model, optimizer, 1)
    after = model.state_dict(), optimizer.state_dict()["slots"]
    for name in ("0.weight", "0.bias"):
        np.testing.assert_array_equal(after[0][name], before[0][name])
    for name in ("0.exp_avg", "1.exp_avg_sq"):
        np.testing.assert_array_equal(after[1][name], before[1][name])
    assert (after[0]["2.weight"] != before[0]["2.weight"]).all()
    assert optimizer.state_dict()["param_steps"] == [1, 1, 2, 2]


def test_a_parameter_unfrozen_late_starts_its_own_bias_correction():
    p, q = nn.Parameter(np.zeros(4)), nn.Parameter(np.zeros(4))
    optimizer = optim.Adam([p, q], lr=0.1)
    for t in range(5):
        optimizer.zero_grad()
        p.accumulate(np.ones(4))
        if t == 4:
            q.accumulate(np.ones(4))
        optimizer.step()
    np.testing.assert_allclose(q.data, -0.1, rtol=1e-6)  # a first step of Adam is lr long


def test_tied_weights_are_one_parameter_to_the_optimizer():
    model = nn.AutoEncoder.symmetric(6, [4], tied=True)
    optimizer = optim.SGD(model, lr=0.1)
    x = np.random.default_rng(0).random((5, 6), np.float32)
    before = model.encoder[0].weight.data.copy()
    ldl.TrainStep(model, nn.BCELoss(), optimizer)(x, x)
    tied = model.decoder[0].weight
    assert tied is model.encoder[0].weight
    np.testing.assert_allclose(tied.data, before - 0.1 * tied.grad, rtol=1e-6)
    assert len(list(model.parameters())) == 3


def test_parameters_of_two_types_live_in_two_buffers_and_both_move():
    p, q = nn.Parameter(np.zeros(3)), nn.Parameter(np.zeros(3, "float32"))
    optimizer = optim.SGD([p, q], lr=1.0)
    p.accumulate(np.ones(3))
    q.accumulate(np.ones(3, "float32"))
    optimizer.step()
    assert (p.data == -1).all()
    assert (q.data == -1).all()
    assert (p.data.dtype, q.data.dtype) == ("float64", "float32")


# ---- groups and options --------------------------------------------------------------------------


def test_groups_have_their_own_options_and_the_defaults_of_the_rest():
    p, q = nn.Parameter(np.ones(2)), nn.Parameter(np.ones(2))
    optimizer = optim.SGD(
        [{"params": [p], "lr": 1.0, "weight_decay": 0.5}, {"params": [q]}], lr=0.1
    )
    for parameter in (p, q):
        parameter.accumulate(np.ones(2))
    optimizer.step()
    np.testing.assert_allclose(p.data, 1 - 1.0 * 1.5)
    np.testing.assert_allclose(q.data, 1 - 0.1)
    optimizer.param_groups[1]["lr"] = 0.2
    optimizer.step()
    np.testing.assert_allclose(q.data, 1 - 0.1 - 0.2)


BAD = [
    (lambda p: optim.SGD(p, lr=float("nan")), "lr must be finite"),
    (lambda p: optim.SGD(p, lr=-0.1), "lr must be finite and >= 0"),
    (lambda p: optim.SGD(p, lr="fast"), "lr must be a number"),
    (lambda p: optim.SGD(p, momentum=1.0), "momentum must be .* < 1"),
    (lambda p: optim.SGD(p, nesterov=True), "nesterov needs a momentum"),
    (lambda p: optim.RMSprop(p, alpha=1.5), "alpha must be"),
    (lambda p: optim.Adam(p, lr=float("inf")), "lr must be finite"),
    (lambda p: optim.Adam(p, betas=()), "betas must be two numbers"),
    (lambda p: optim.Adam(p, betas=(0.9, 1.0)), "a beta must be"),
    (lambda p: optim.Adam(p, eps=0), "eps must be finite and > 0"),
    (lambda p: optim.AdamW(p, weight_decay=-1), "weight_decay must be"),
    (lambda p: optim.Adam(p, clip_norm=0), "clip_norm must be"),
    (lambda p: optim.SGD(p, momentum=0.9, dampening=1), "dampening must be .* < 1"),
    (
        lambda p: optim.SGD(p, momentum=0.9, dampening=0.1, nesterov=True),
        "nesterov has no dampening",
    ),
    (lambda p: optim.Adagrad(p, lr_decay=-1), "lr_decay must be"),
    (lambda p: optim.Adagrad(p, initial_accumulator_value=-1), "initial_accumulator_value must"),
    (lambda p: optim.Adagrad(p, eps=0), "eps must be finite and > 0"),
    (lambda p: optim.NAdam(p, momentum_decay=-1), "momentum_decay must be"),
    (lambda p: optim.RAdam(p, betas=(0.9, 1.0)), "a beta must be"),
    (lambda p: optim.Lion(p, betas=0.9), "betas must be a list of numbers"),
    (lambda p: optim.Lion(p, weight_decay=-1), "weight_decay must be"),
    (lambda p: optim.Adam([]), "empty"),
    (lambda p: optim.Adam([*p, p[0]]), "twice"),
    (lambda p: optim.Adam([{"params": p, "rate": 1}]), "unknown options .*: rate; Adam has lr"),
    (lambda p: optim.Adam([np.ones(3)]), "takes parameters"),
]


@pytest.mark.parametrize(("build", "message"), BAD, ids=[m for _, m in BAD])
def test_options_that_make_no_sense_are_refused_at_construction(build, message):  # case 7
    with pytest.raises((ValueError, TypeError), match=message) as error:
        build(parameters())
    assert "\n" not in str(error.value)


# ---- clipping ------------------------------------------------------------------------------------


def with_gradients(*gradients):
    params = [nn.Parameter(np.zeros_like(g)) for g in gradients]
    for p, g in zip(params, gradients, strict=True):
        p.accumulate(g)
    return params


SIZES = {
    "float16": [1e-7, 1e-3, 1.0, 4e3],
    "float32": [1e-45, 1e-30, 1e-20, 1e-7, 1.0, 1e4, 1e20, 2e37],
    "float64": [5e-324, 1e-300, 1e-20, 1.0, 1e20, 1e300],
}


@pytest.mark.parametrize(("dtype", "size"), [(d, s) for d, sizes in SIZES.items() for s in sizes])
def test_clipping_finds_the_norm_of_gradients_whose_squares_are_no_numbers(dtype, size):
    whole = np.array([3, 0, 0, -4, 12], dtype) * np.dtype(dtype).type(size)
    for parts in ([whole], np.split(whole, 5)):
        exact = float(np.sqrt((whole.astype("longdouble") ** 2).sum()))
        for max_norm in (0.125 * exact if size > 1e-3 else 1.0, min(10 * max(exact, 1.0), 3e38)):
            params = with_gradients(*parts)
            found = float(optim.clip_grad_norm_(params, max_norm))
            if exact > 1e-40:
                assert found == pytest.approx(exact, rel=1e-5)
            factor = min(1.0, max_norm / (exact + 1e-6))
            for p, g in zip(params, parts, strict=True):
                if factor == 1.0:
                    np.testing.assert_array_equal(p.grad, g)  # to the bit
                else:
                    np.testing.assert_allclose(p.grad, factor * g, rtol=2e-3)


def test_clipping_lets_a_divergence_be_found():
    for bad, others in ((np.inf, 0.0), (np.nan, np.nan)):
        (p,) = with_gradients(np.array([1, bad, 2], "float32"))
        with np.errstate(invalid="ignore"):
            optim.clip_grad_norm_([p], 1.0)
        np.testing.assert_array_equal(p.grad, [others, np.nan, others])


def test_large_weights_are_no_divergence():
    model = nn.Linear(2, 1)
    model.weight.data[...] = 1e25
    x = np.full((4, 2), 1e-25, "float32")
    history = ldl.fit(model, (x, x[:, :1]), nn.L1Loss(), optim.SGD(model, 1e-3), 2)
    assert np.isfinite(history["loss"]).all()


def test_clipping_by_norm_scales_all_gradients_together():
    params, grads = parameters(), gradients(1)[0]
    for p, g in zip(params, grads, strict=True):
        p.accumulate(g)
    norm = sqrt(sum((g * g).sum() for g in grads))
    assert float(optim.clip_grad_norm_(params, 0.5)) == pytest.approx(norm)
    clipped = sqrt(sum((p.grad**2).sum() for p in params))
    assert clipped == pytest.approx(0.5, rel=1e-5)
    np.testing.assert_allclose(params[0].grad / grads[0], clipped / norm)
    assert float(optim.clip_grad_norm_(params, 10.0)) == pytest.approx(clipped)
    assert sqrt(sum((p.grad**2).sum() for p in params)) == clipped


def test_clipping_by_value_cuts_each_number():
    params, grads = parameters(), gradients(1)[0]
    for p, g in zip(params, grads, strict=True):
        p.accumulate(g)
    optim.clip_grad_value_(params, 0.3)
    for p, g in zip(params, grads, strict=True):
        np.testing.assert_array_equal(p.grad, np.clip(g, -0.3, 0.3))


def test_an_optimizer_clips_before_it_steps():
    params, grads = parameters(), gradients(1)
    start = [p.data.copy() for p in params]
    optimizer = optim.SGD(params, lr=1.0, clip_norm=0.5, clip_value=0.3)
    train(optimizer, params, grads)
    cut = [np.clip(g, -0.3, 0.3) for g in grads[0]]
    scale = 0.5 / (sqrt(sum((g * g).sum() for g in cut)) + 1e-6)
    for p, before, g in zip(params, start, cut, strict=True):
        np.testing.assert_allclose(p.data, before - scale * g)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.filterwarnings("error")
def test_a_rate_that_the_type_cannot_hold_is_infinite(dtype):
    (p,) = with_gradients(np.array([1.0, -1.0], dtype))
    optim.SGD([p], lr=1e300).step()
    np.testing.assert_array_equal(p.data, [-np.inf, np.inf])


def test_long_doubles_are_moved_as_precisely_as_they_are():
    fine, coarse = (parameters(dtype) for dtype in ("longdouble", "float64"))
    for params, dtype in ((fine, "longdouble"), (coarse, "float64")):
        train(optim.Adam(params, **A), params, gradients(dtype=dtype))
    for a, b in zip(fine, coarse, strict=True):
        assert a.data.dtype == np.dtype("longdouble")
        np.testing.assert_allclose(a.data, b.data, rtol=1e-12)


def test_setting_the_rate_names_where_it_stands() -> None:
    optimizer = optim.Adam(nn.Linear(2, 1), lr=0.1)
    with pytest.raises(AttributeError, match=r"param_groups\[0\]\['lr'\]") as error:
        optimizer.lr = 0.2  # type: ignore[misc]
    assert "\n" not in str(error.value)
    assert optimizer.lr == 0.1
