"""Model files: the weights and the architecture of a model, on any backend.

    ldl.save(model, "model.ldl")
    model = ldl.load("model.ldl")

A layer of your own is saved by the arguments that it was built with; decorate its class with
`ldl.register`, and let it allocate with `ldl.nn.init`, which is bounded while a file is read. An
attribute that has an argument's name and is a number or a str, such as a Dropout's `p`, is saved
as it is now; anything else that was changed after the construction and is not a parameter is not
saved, nor are `requires_grad` and an optimizer's state.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import copy_context
from typing import Any

from ldl.backend import Backend, get_backend, use_backend
from ldl.io import architecture, rehearsal
from ldl.io.files import CheckpointError, Tensor, one_line, read_tensors, write_tensors
from ldl.io.replacing import Path
from ldl.nn import init
from ldl.nn.module import Module

FORMAT, VERSION = "ldl-model", 1


def save(model: Module, path: Path, notes: Mapping[str, Any] | None = None) -> None:
    """Save a model, whichever its backend, its type and its mode.

    `notes` are a JSON object that the file keeps beside the model, such as what its inputs mean;
    `ldl.io.load_with_notes` gives them back.

    The file is replaced whole or not at all, and the same model gives the same bytes. Raises
    TypeError, before anything is written, for a class that is not registered (`ldl.register`), for
    an argument that JSON cannot hold, for modules hidden where their weights are not found, such as
    a list in a dict, and for a model that its arguments do not build again (which is tried, with
    zeros); ValueError for a model nested too deep, TypeError or ValueError for notes that are
    not JSON with finite numbers; OSError where the file cannot be written, the
    old one then being whole.
    """
    if not isinstance(model, Module):
        raise TypeError(f"ldl.save takes a model (ldl.nn.Module), got a {type(model).__name__}")
    header = {"format": FORMAT, "version": VERSION, "model": rehearsal.describe(model)}
    if notes is not None:
        header["notes"] = dict(notes)
    fetch = model.backend.to_numpy
    write_tensors(path, {name: fetch(p.data) for name, p in model.named_parameters()}, header)


def load(
    path: Path, backend: str | Backend | None = None, *, allow_nonfinite: bool = False
) -> Module:
    """The saved model, in eval mode, on `backend` or the default one, with the types it had.

    Only classes of `ldl.nn` and those registered are built, and nothing in the file is executed.
    Raises CheckpointError for a file that is damaged, hostile or no model, that needs a class
    which is not registered, or that holds NaN or infinity (unless `allow_nonfinite`); OSError
    where it cannot be opened; BackendUnavailableError for a backend that cannot run here.
    """
    return load_with_notes(path, backend, allow_nonfinite=allow_nonfinite)[0]


def load_with_notes(
    path: Path, backend: str | Backend | None = None, *, allow_nonfinite: bool = False
) -> tuple[Module, dict[str, Any]]:
    """`load`, and the notes that the model was saved with, an empty dict where there are none."""
    target = get_backend(backend)
    tensors, header = read_tensors(path)
    description = _description(path, header)
    try:
        model = copy_context().run(_build, description, tensors, allow_nonfinite)
    except Exception as error:
        raise CheckpointError(
            f"{path} holds a model that cannot be built: {one_line(error)}"
        ) from error
    return model.to(target).eval(), dict(header.get("notes", {}))


def _description(path: Path, header: dict[str, Any]) -> Any:
    """The architecture in a header, not checked yet."""
    kind, version = header.get("format"), header.get("version")
    if kind != FORMAT:
        raise CheckpointError(
            f"{path} is no model file (its format is {str(kind)[:80]!r}): "
            "give one that ldl.save wrote"
        )
    if isinstance(version, int) and version > VERSION:
        raise CheckpointError(
            f"{path} is of version {str(version)[:80]}, and this ldl reads up to {VERSION}: "
            "update ldl"
        )
    named = header.keys() - {"notes"} == {"format", "version", "model"}
    if version != VERSION or not named or not isinstance(header.get("notes", {}), dict):
        raise CheckpointError(f"{path} is no model file of version {VERSION}: save the model again")
    return header["model"]


def _build(description: Any, tensors: dict[str, Tensor], allow_nonfinite: bool) -> Module:
    """The model on the host, its values and types those of the tensors.

    It may build twice the weights that it keeps: a TiedLinear whose source is not in the model, as
    in a decoder saved alone, has the source built for it, bias and all.
    """
    architecture.check(description)
    size = sum(tensor.size for tensor in tensors.values())
    with use_backend("numpy") as host, init.budget(2 * size):
        model = architecture.build(description)
    for name, parameter in model.named_parameters():
        if name in tensors:
            dtype = tensors[name].dtype
            if dtype.kind != parameter.dtype.kind:
                raise ValueError(f"{name} is {dtype} where the model has {parameter.dtype}")
            parameter.to(host, dtype)
    model.load_state_dict(tensors, allow_nonfinite=allow_nonfinite)
    return model
