"""Architectures as JSON: a model as the calls that build it, and a registry of what may be called.

| value | in JSON |
|---|---|
| None, bool, int, float, str, list | itself |
| tuple | {"tuple": [...]} |
| dict | {"dict": [[key, value], ...]} |
| NumPy array | {"array": its elements in a list, "dtype": "float32", "shape": [...]} |
| module | {"class": its class's name, "args": {name: value}}; for `*args` the value is a list |
| the n-th module built before, or one inside it | {"module": n, "path": "" or dotted name} |

Arguments are built in the order of the class's signature, dicts in their own.
"""

from __future__ import annotations

from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING, Any, TypeVar

from ldl import nn
from ldl.io.constants import array_size, build_array, describe_array
from ldl.nn.module import Module
from ldl.numbers import plain

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from inspect import Signature

M = TypeVar("M", bound=type[Module])

DEPTH_LIMIT = 64
"""How deep modules and lists may stand in each other."""

SIZE_LIMIT = 500_000
"""How much a description may say: its characters and 50 a module, with references written out."""

_registered: dict[str, type[Module]] = {}


def register(cls: M) -> M:
    """Let `ldl.save` and `ldl.load` handle a Module subclass; a class decorator.

    A file holds a module as its class's name and the arguments that `__init__` was called with,
    which are recorded by themselves: None, bools, ints, finite floats, strs, modules, NumPy's
    scalars (as Python's numbers) and small arrays, and lists, tuples and dicts (with str keys) of
    these. What is learned is no argument, but a weight, in a Parameter. An attribute that has an
    argument's name and is a number, a str, or an array where the argument was one, is saved as it
    is now. Loading calls `__init__` with all that and copies the weights in.

    The class is known by its name. Defining it anew, as a notebook does, replaces it. Raises
    TypeError for what is no Module subclass, and ValueError for a name that a class of `ldl.nn` or
    another registered class has.
    """
    if not (isinstance(cls, type) and issubclass(cls, Module)):
        raise TypeError(f"ldl.register takes a subclass of ldl.nn.Module, got {cls!r}")
    taken = _find(cls.__name__)
    if taken is not None and not _same(taken, cls):
        raise ValueError(
            f"the name {cls.__name__!r} is taken by {taken.__module__}.{taken.__qualname__}: "
            "rename the class"
        )
    if taken is None or taken.__name__ in _registered:
        _registered[cls.__name__] = cls
    return cls


def describe(
    model: Module, changed: Mapping[int, Mapping[str, Any]] | None = None
) -> dict[str, Any]:
    """The model as JSON, with `changed` arguments, by a module's id and their names.

    Raises TypeError for a class that is not registered, for an argument that JSON cannot hold and
    for a module whose weights `state_dict` does not give, and ValueError for a model beyond the
    limits of this module.
    """
    numbers: dict[int, tuple[int, str]] = {}
    saved = {id(parameter) for parameter in model.parameters()}
    changed = changed or {}
    count = 0

    def from_module(module: Module, depth: int) -> dict[str, Any]:
        nonlocal count
        if id(module) in numbers:
            number, path = numbers[id(module)]
            return {"module": number, "path": path}
        cls = type(module)
        found = _find(cls.__name__)
        if found is None or not _same(found, cls):
            raise TypeError(
                f"{cls.__name__} is not registered, so that no file of it could be loaded: "
                "decorate the class with @ldl.register"
            )
        own = {id(parameter) for parameter in module.parameters()}
        if own and saved.isdisjoint(own):
            raise TypeError(
                f"{module!r} stands where its weights are not found, so that they would be lost: "
                "keep modules in attributes, or in lists, tuples or dicts that are attributes"
            )
        signature = _signature(cls.__init__)
        given, named = module._arguments
        args: dict[str, Any] = {}
        bound = {**signature.bind(*given, **named).arguments, **changed.get(id(module), {})}
        for name, value in bound.items():
            variadic = signature.parameters[name].kind.name == "VAR_POSITIONAL"
            where = f"{cls.__name__}: the argument {name!r}"
            args[name] = from_value(list(value) if variadic else value, where, depth + 1)
        for path, inner in module.named_modules():
            numbers.setdefault(id(inner), (count, path))
        count += 1
        return {"class": cls.__name__, "args": args}

    def from_value(value: Any, where: str, depth: int) -> Any:
        if depth > DEPTH_LIMIT:
            raise ValueError(f"{where} nests deeper than {DEPTH_LIMIT} levels: flatten the model")
        if isinstance(value, Module):
            return from_module(value, depth)
        if isinstance(value, list):
            return [from_value(v, where, depth + 1) for v in value]
        if isinstance(value, tuple):
            return {"tuple": [from_value(v, where, depth + 1) for v in value]}
        if isinstance(value, dict) and all(isinstance(k, str) for k in value):
            return {"dict": [[k, from_value(v, where, depth + 1)] for k, v in value.items()]}
        value = plain(value)
        if value is None or isinstance(value, (bool, int, str)):
            return value
        if isinstance(value, float) and isfinite(value):
            return value
        array = describe_array(value)
        if array is not None:
            return array
        raise TypeError(
            f"{where} holds {_kind(value)}, which a model file cannot hold: use None, a bool, an "
            "int, a finite float, a str, a module, a NumPy array of finite numbers, or a list, "
            "tuple or dict (str keys) of these"
        )

    description = from_module(model, 0)
    check(description)
    return description


def arguments(module: Module) -> dict[str, Any]:
    """What a module's constructor takes, but for *args and **kwargs, and was given, else None."""
    signature = _signature(type(module).__init__)
    given, named = module._arguments
    bound = signature.bind(*given, **named).arguments
    kinds = {p.name: p.kind.name for p in signature.parameters.values()}
    return {name: bound.get(name) for name in kinds if not kinds[name].startswith("VAR_")}


def check(description: Any) -> None:
    """Raise unless this is the JSON of a module, within the limits of this module.

    LookupError for a class that is not registered, TypeError for an argument that it does not
    take, ValueError for the rest.
    """
    sizes: list[int] = []
    spent = 0

    def spend(amount: int) -> None:
        nonlocal spent
        spent += amount
        if spent > SIZE_LIMIT:
            raise ValueError(f"the architecture is larger than {SIZE_LIMIT} characters")

    def walk(value: Any, depth: int) -> None:
        if depth > DEPTH_LIMIT:
            raise ValueError(f"the architecture nests deeper than {DEPTH_LIMIT} levels")
        match value:
            case None | bool() | int() | float() | str():
                spend(1 + len(str(value)))
            case list(items):
                spend(1)
                for item in items:
                    walk(item, depth + 1)
            case {"tuple": list(items)} if len(value) == 1:
                walk(items, depth)
            case {"dict": list(items)} if len(value) == 1:
                spend(1)
                for item in items:
                    walk_pair(item, depth + 1)
            case {"array": list(items), "dtype": str(dtype), "shape": list(shape)} if (
                len(value) == 3
            ):
                spend(array_size(items, dtype, shape))
            case {"module": int(n), "path": str(path)} if len(value) == 2 and n is not False:
                if not 0 <= n < len(sizes):
                    raise ValueError(
                        f"the architecture refers to the module {n} before it is there"
                    )
                spend(len(path) + sizes[n])
            case {"class": str(name), "args": dict(args)} if len(value) == 2:
                start = spent
                spend(50 + len(name))
                for item in _ordered(name, args):
                    walk_pair(item, depth + 1)
                sizes.append(spent - start)
            case _:
                raise ValueError("the architecture has an entry that is no value or module")

    def walk_pair(pair: Any, depth: int) -> None:
        match pair:
            case [str(key), value]:
                spend(len(key))
                walk(value, depth)
            case _:
                raise ValueError("the architecture has a dict with an entry that is no pair")

    if not isinstance(description, dict) or "class" not in description:
        raise ValueError("the architecture is not a module's")
    walk(description, 0)


def build(description: dict[str, Any]) -> Module:
    """The model that a description, checked before, gives; weights are as its layers start them.

    Raises what the classes raise for values that they do not take.
    """
    built: list[Module] = []

    def to_module(name: str, args: dict[str, Any]) -> Module:
        cls = _known(name)
        bound = _signature(cls.__init__).bind_partial()
        bound.arguments.update((k, to_value(v)) for k, v in _ordered(name, args))
        module = cls(*bound.args, **bound.kwargs)
        built.append(module)
        return module

    def to_value(value: Any) -> Any:
        if isinstance(value, list):
            return [to_value(v) for v in value]
        if not isinstance(value, dict):
            return value
        if "tuple" in value:
            return tuple(to_value(v) for v in value["tuple"])
        if "dict" in value:
            return {k: to_value(v) for k, v in value["dict"]}
        if "array" in value:
            return build_array(value["array"], value["dtype"], value["shape"])
        if "module" in value:
            for path, inner in built[value["module"]].named_modules():
                if path == value["path"]:
                    return inner
            raise ValueError("it refers to a module that is not there")
        return to_module(value["class"], value["args"])

    return to_module(description["class"], description["args"])


def _find(name: str) -> type[Module] | None:
    """The class that files call by this name."""
    own = getattr(nn, name) if name in nn.__all__ else None
    if isinstance(own, type) and issubclass(own, Module):
        return own
    return _registered.get(name)


def _known(name: str) -> type[Module]:
    cls = _find(name)
    if cls is None:
        raise LookupError(
            f"it needs the class {name[:80]!r}: import the module that defines it and "
            "decorates it with @ldl.register"
        )
    return cls


def _ordered(name: str, args: dict[str, Any]) -> list[tuple[str, Any]]:
    """Arguments in the order of the class's signature, in which they are numbered and built."""
    parameters = _signature(_known(name).__init__).parameters
    unknown = [k for k in args if k not in parameters]
    if unknown:
        raise TypeError(f"{name} takes no argument {unknown[0][:80]!r}")
    return [(k, args[k]) for k in parameters if k in args]


def _same(a: type, b: type) -> bool:
    return a is b or (a.__module__, a.__qualname__) == (b.__module__, b.__qualname__)


@lru_cache(maxsize=256)
def _signature(initialiser: Callable[..., None]) -> Signature:
    """What a class takes: the signature of its `__init__`, without self."""
    import inspect

    signature = inspect.signature(initialiser)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _kind(value: Any) -> str:
    if isinstance(value, float):
        return str(value)
    return "a dict with keys that are no str" if isinstance(value, dict) else type(value).__name__
