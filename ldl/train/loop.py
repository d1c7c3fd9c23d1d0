"""fit: train a model on data."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from time import perf_counter
from typing import Any

from ldl import random
from ldl.data.batching import Arrays, Stored
from ldl.distributed.world import ALONE, World, stopping_all
from ldl.io import check_writable
from ldl.nn.losses import Loss
from ldl.nn.module import Module
from ldl.numbers import positive_integer
from ldl.optim.optimizer import Optimizer
from ldl.random import NOISE, SHUFFLE, Key, Stream
from ldl.train.agreement import agree, still_agree, tell
from ldl.train.arguments import check_arguments, divided, settings
from ldl.train.averages import EMA, SWA
from ldl.train.callbacks import Callback, EarlyStopping, Run, as_callbacks
from ldl.train.checkpoint import load_checkpoint, save_checkpoint
from ldl.train.epochs import Epochs
from ldl.train.evaluation import Metrics, check_targets
from ldl.train.history import History
from ldl.train.loggers import CSVLogger, TensorBoardLogger
from ldl.train.metrics import as_metrics
from ldl.train.past import Past
from ldl.train.progress import Progress
from ldl.train.saving import ModelCheckpoint
from ldl.train.step import TrainStep
from ldl.train.tally import looks_at_inputs
from ldl.train.undo import streams_of

Hook = Callback | Callable[[Run], None]

OWN = (EarlyStopping, ModelCheckpoint, CSVLogger, TensorBoardLogger, EMA, SWA)
"""Callbacks that add no figures to the history."""


@stopping_all
def fit(
    model: Module,
    data: Any,
    loss: Loss,
    optimizer: Optimizer,
    epochs: int,
    *,
    sample_weight: Any = None,
    batch_size: int = 32,
    validation: Any = None,
    validation_split: float | None = None,
    metrics: Metrics | None = (),
    callbacks: Hook | Iterable[Hook] | None = (),
    seed: int = 0,
    checkpoint: str | os.PathLike[str] | None = None,
    resume: bool = False,
    progress: bool | None = None,
    steps_per_launch: int | None = None,
    check_finite: bool = False,
    world: World | None = None,
) -> History:
    """Train a model, and leave it in eval mode.

    All of it is in training mode but for layers that a callback's `on_fit_begin` puts into eval
    mode.

    A further fit of the same model goes on: shuffles, noise and dropout are those of the epochs
    that come after the ones which earlier fits with the same seed have begun, and the optimizer, if
    it is the same, goes on with its moments, its steps and its schedule. So `fit` of 3 epochs and
    then of 2 gives the weights that 5 give. A new or loaded model begins with the seed's first
    draws, a copy where its original stands, a model of layers that were fitted before, such as
    `model[:2]`, behind the draws of that, a new optimizer with nothing. History, callbacks and the
    numbers of epochs are each call's own. After an interrupt or an error of your own code the
    epoch counts as begun; where its start is restored, as by a DivergedError, it does not.

    Args:
        model: what to train, on the backend that it stands on, in float32 or float64.
        data: x (an autoencoder's input is its target), (x, y), an `ldl.data.Arrays` (which adds
            noise), or an iterable of batches (x, y) that can be iterated again. Arrays are cast
            and moved to the model's device once, and reshuffled every epoch. Each of them but x
            alone may have weights of samples as a third part, (x, y, sample_weight).
        loss: with reduction "mean", "batchmean" or "sum". Targets are checked, those of arrays
            before the first step, those of batches in every epoch, at its end.
        optimizer: over the model's parameters, or some of them.
        epochs: how many times to go through the data, those of a resumed run included.
        sample_weight: an array (N,) beside the arrays x and y, what each sample counts: the loss of
            a batch and of an epoch is Σ_n w_n l_n / Σ_n w_n (of reduction "sum" the numerator).
            Metrics count every sample alike, but for those that are weighted.
        batch_size: samples a step; the last batch of an epoch holds what is left.
        validation: data whose loss and metrics are reported as `val_loss` and so on; its noise, if
            any, is the same in every epoch.
        validation_split: instead, how much of the arrays to hold out, such as 0.1, a copy of them.
            Which samples depends on how many there are and on nothing else, neither their order nor
            the seed, so that no further fit learns what one has held out; give the last samples of
            a series as `validation`. The rest is trained on as if it were given alone.
        metrics: names ("mse", "mae", "accuracy", "psnr"), functions of (output, target) that give
            a mean over the batch or a pair (sum, count), or `Metric`s; one or several. With
            "weighted_" before a name, as in "weighted_accuracy", samples count by `sample_weight`;
            `Metric` and `EpochMetric` have `weighted=True` for functions that take it. In a list, a
            pair ("auc", roc_auc_score) is any function of (y_true, y_pred), of all samples of the
            epoch at once, with all their outputs in memory, see `EpochMetric`. The accuracy
            is that of the loss: of every element for BCELoss and BCEWithLogitsLoss, else of the
            largest output, where the label is not ignored.
        callbacks: `Callback`s such as `EarlyStopping`, `ModelCheckpoint`, `CSVLogger`,
            `TensorBoardLogger`, `EMA` and `SWA`, or functions of the `Run`, called after
            every epoch; one or several.
        seed: of shuffles, noise and dropout. For a new model, one seed gives one result, bit for
            bit, on one device.
        checkpoint: a file to be written after every epoch.
        resume: continue from `checkpoint` where it exists: the result is then the same, bit for
            bit, as that of a run that was never stopped. Settings that differ from the
            checkpoint's are refused, but for `epochs`, `metrics`, `progress`, `steps_per_launch`
            and callbacks that have no state.
        progress: show a bar; by default where standard error is a terminal.
        steps_per_launch: how many steps a device is given at once, where the data are arrays and no
            metrics are asked for. By default what suits the backend: 1 on NumPy, 32 on CuPy.
        check_finite: look for NaN and infinity in x, y and those of validation, before the first
            step, or in batches of your own as they come; the error names row and column. Without
            it they show as a DivergedError.
        world: the processes that train together, `ldl.distributed.World()`; each calls `fit` with
            the same arguments and takes its rows of every batch of `batch_size`. The weights are
            those of one process, to rounding. Arrays are the same on all ranks, or each rank's own,
            an `ldl.data.Shard`. Rank 0 alone writes: the checkpoint, from which any number of ranks
            may resume, the progress, and callbacks that are not `everywhere`. Layers that mix the
            samples of a batch, as BatchNorm does, are refused.

    Returns:
        The History: a row of figures for every epoch. `loss` is that of all the epoch's samples
        together, each taken before its batch's update; `seconds` is the epoch's wall time.

    Raises:
        DivergedError: the loss, a weight or the optimizer's state is no longer finite; all is as
            it was at the epoch's start.
        ValueError, TypeError: data, targets or settings that do not fit each other; for those that
            show in the course of an epoch, its start is restored.
        CheckpointError: the checkpoint is damaged or that of a run with other settings.
        OSError: the checkpoint cannot be written.
        RanksDifferError: ranks were given other data, models or settings than rank 0, before the
            first step; rank 0 could not write; or weights have come apart in an epoch.
    """
    check_arguments(model, loss, optimizer, resume, checkpoint)
    epochs = positive_integer("epochs", epochs)
    batch_size = positive_integer("batch_size", batch_size)
    seed = random.check_seed(seed)
    if steps_per_launch is not None:
        steps_per_launch = positive_integer("steps_per_launch", steps_per_launch)
    world = world or ALONE
    hooks, figures = as_callbacks(callbacks), as_metrics(metrics, loss)
    backend = model.backend
    loss.to(backend)
    given, asked = divided(data, sample_weight, validation, validation_split, backend)
    if check_finite:
        given.check_finite(model.dtype)
        if asked is not None:
            asked.check_finite(model.dtype)
    how = model.dtype, loss.takes_labels, model.takes_integers
    train_data = given.place(backend, *how)
    held_out = None if asked is None else asked.place(backend, *how)
    for part in (train_data, held_out):
        if isinstance(part, Arrays):
            check_targets(model, loss, figures, part.x, part.y)

    noise = Stream(seed, NOISE)
    run = Run(model, loss, optimizer, History(), epochs, seed, [noise, *streams_of(model)])
    run.world = world
    run.validated = held_out is not None
    if all(type(hook) in OWN for hook in hooks):
        names = ("loss", *(metric.name for metric in figures))
        held = [f"val_{name}" for name in names] * run.validated
        run.figures = ("epoch", *names, *held, "lr", "seconds")
    past = Past(run)
    draws = past.draws()
    checked = checkpoint is not None or world.size > 1
    run.settings = settings(run, given, asked, batch_size, hooks, checked)
    if resume and checkpoint is not None and os.path.exists(checkpoint):
        draws = load_checkpoint(checkpoint, run, hooks)
    agree(run, draws, figures)
    if checkpoint is not None and run.epoch < epochs and not run.stop:
        world.on_first(partial(check_writable, checkpoint))
    past.go_on(draws)
    corruption = getattr(train_data, "noise", None)
    by_batch = bool(figures) or looks_at_inputs(loss)
    together = backend.steps_per_launch if steps_per_launch is None else steps_per_launch
    samples = None if isinstance(train_data, Stored) else len(train_data)
    is_shard = getattr(train_data, "is_shard", False)
    shuffle = Stream(seed, SHUFFLE, world.rank if is_shard else 0).stream
    whole = sum(world.gather(samples)) if samples is not None and is_shard else samples
    bar = Progress(False if world.rank else progress, epochs, whole, run.epoch)
    try:
        model.train()
        for hook in hooks:
            tell(hook, Callback.on_fit_begin, run)
        past.go_on(past.draws())
        if not any(module.training for module in model.modules()):
            model.train()  # a hook has fitted or evaluated it
        step = TrainStep(
            model,
            loss,
            optimizer,
            keep_output=by_batch,
            noise=corruption,
            stream=None if corruption is None else noise,
            world=run.world if world.size > 1 else None,
        )
        by_step = [hook for hook in hooks if type(hook).on_step_end is not Callback.on_step_end]
        together = 1 if by_batch or by_step else together
        plan = Epochs(run, step, train_data, batch_size, together, figures, bar, by_step)
        while run.epoch < epochs and not run.stop:
            run.epoch += 1
            began = perf_counter()
            lr = optimizer.lr
            order = None
            if samples is not None:
                order = random.permutation(samples, Key(seed, shuffle, run.before + run.epoch))
            try:
                row = plan.train(order)
                if held_out is not None:
                    scores = plan.validate(held_out, seed)
                    row |= {f"val_{name}": value for name, value in scores.items()}
            finally:
                past.note()
            seconds = world.gather(perf_counter() - began)[0]
            row = {"epoch": run.epoch, **row, "lr": lr, "seconds": seconds}
            run.history.rows.append(row)
            optimizer.schedule.report(row.get("val_loss", row["loss"]))
            with run.averaged():
                for hook in hooks:
                    tell(hook, Callback.on_epoch_end, run)
            past.go_on(past.draws())
            still_agree(run)
            if checkpoint is not None:
                world.on_first(partial(save_checkpoint, checkpoint, run, hooks))
            bar.epoch(row)
        if run.average is not None:
            run.average.finish(run)
        for hook in hooks:
            tell(hook, Callback.on_fit_end, run)
    finally:
        try:
            model.eval()
        except BaseException:  # an interrupt came in the middle of it
            model.eval()
            raise
        finally:
            bar.close()
            for hook in hooks:
                hook.close()
    return run.history
