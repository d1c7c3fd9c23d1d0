"""Agreement: what the ranks of a training must have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from typing import Any
from warnings import warn
from zlib import crc32

from ldl.backend import Array
from ldl.distributed.world import RanksDifferError
from ldl.nn.module import Module
from ldl.optim.optimizer import Optimizer
from ldl.train.callbacks import Callback, Run
from ldl.train.metrics import AnyMetric
from ldl.train.undo import streams_of


def agree(run: Run, draws: list[int], metrics: Sequence[AnyMetric]) -> None:
    """RanksDifferError, before the first step, unless all ranks of a fit are to do the same."""
    if run.world.size == 1:
        return
    run.world.agree(
        {
            "the number of epochs": run.epochs,
            "the metrics": [metric.name for metric in metrics],
            **{f"the setting {name!r}": value for name, value in run.settings.items()},
            "the epoch of the checkpoint": run.epoch,
            "epochs of earlier fits": run.before,
            "the draws": draws,
            **facts(run.model, run.optimizer),
        }
    )


APART = 1e-3
"""How far weights of ranks may come apart in an epoch, over the largest of their parameter."""


def still_agree(run: Run) -> None:
    """After an epoch: all stop where one is to stop, and go on from the same bits.

    Processors of different kinds round differently: rank 0's weights and state are then everyone's.
    RanksDifferError where they are further apart than that.
    """
    world = run.world
    if world.size == 1:
        return
    run.stop = any(world.gather(bool(run.stop)))
    own = run.model.state_dict()
    if len(set(world.gather(_checksum(run.model, own)))) == 1:
        return
    state = run.optimizer.state_dict()
    (weights, first), *_ = world.gather(
        _on_host(run, own, state) if world.rank == 0 else (None, {})
    )
    apart = world.gather(_apart(run, own, weights))
    rank = max(range(world.size), key=apart.__getitem__)
    if not apart[rank] <= APART:
        raise RanksDifferError(
            f"the weights of rank {rank} came apart from rank 0's in epoch {run.epoch}, by "
            f"{apart[rank]:.1g} of the largest: does it do something that the others do not?"
        )
    if world.rank == 0:
        warn(
            f"the weights of rank {rank} differed from rank 0's after epoch {run.epoch} in their "
            f"rounding ({apart[rank]:.1g}), as on processors of different kinds: all take rank 0's",
            stacklevel=4,
        )
    run.model.load_state_dict(weights)
    run.optimizer.load_state_dict(first)


def _on_host(run: Run, weights: dict[str, Array], state: dict[str, Any]) -> tuple[Any, Any]:
    """Both, their arrays where they can be sent."""
    host = run.model.backend.to_numpy
    slots = {name: host(a) for name, a in state["slots"].items()}
    return {name: host(a) for name, a in weights.items()}, {**state, "slots": slots}


def _apart(run: Run, own: dict[str, Array], others: dict[str, Any]) -> float:
    """How far weights are from others, over the largest of their parameter; infinity if NaN."""
    found = 0.0
    for name, other in others.items():
        here = run.model.backend.to_numpy(own[name])
        by = float(abs(here - other).max(initial=0) / max(abs(other).max(initial=0), 1e-30))
        found = max(found, by if by == by else inf)
    return found


def tell(hook: Callback, what: Callable[[Callback, Run], None], run: Run) -> None:
    """Call a callback's method, on rank 0 alone where it is not for all."""
    call = partial(getattr(hook, what.__name__), run)
    if hook.everywhere:
        call()
    else:
        run.world.on_first(call)


def facts(model: Module, optimizer: Optimizer) -> dict[str, Any]:
    """What ranks must have in common: the model, its weights, and the optimizer with its state."""
    named = model.state_dict()
    state = optimizer.state_dict()
    settings = {**optimizer.settings(), "step_count": state["step_count"]}
    return {
        "the backend": model.backend.name,
        **{f"the parameter {name}": f"{a.dtype}{tuple(a.shape)}" for name, a in named.items()},
        "the optimizer": type(optimizer).__name__,
        **{f"the optimizer's {name}": value for name, value in settings.items()},
        "the checksum of the weights": _checksum(model, named),
        "the checksum of the optimizer's state": _checksum(model, state["slots"]),
        "the random streams": [(s.seed, s.stream, s.draw) for s in streams_of(model)],
    }


def _checksum(model: Module, arrays: dict[str, Array]) -> int:
    found = 0
    for array in arrays.values():
        found = crc32(model.backend.to_numpy(array).reshape(-1).view("uint8"), found)
    return found
