"""Noise for denoising: functions of a batch that corrupt it on its own device.

A noise is called as `noise(x, stream, backend)`: x (N, …) on that backend, of values in [0, 1]
unless the noise says otherwise, and a `ldl.random.Stream` whose next draw it takes. One seed gives
the same noise on every backend.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from math import isfinite, isqrt, prod
from typing import Any

from ldl.backend import Array, Backend, get_backend
from ldl.calm import calm
from ldl.nn.changes import Marked
from ldl.nn.differentiable import check_floating
from ldl.numbers import positive_integer, pythonic, real
from ldl.random import Stream


def _guarded(call: Callable[..., Array]) -> Callable[..., Array]:
    """The call, of a copy of x, between checks of what goes in and of what comes out.

    x is a batch of floating numbers, no subclass of an array's.
    """

    call = calm(call)

    @wraps(call)
    def entrance(self: Noise, x: Array, stream: Stream, backend: Backend) -> Array:
        backend = get_backend(backend)
        x = backend.plain(x)
        check_floating(self, x, backend)
        if not x.dtype.isnative:
            x = backend.asarray(x)
        noisy = call(self, x.copy(), stream, backend)
        if not (backend.owns(noisy) and (noisy.shape, noisy.dtype) == (x.shape, x.dtype)):
            raise TypeError(
                f"{self!r} made {_shown(noisy)} of {_shown(x)}: let it return an array like x, "
                "such as noisy.astype(x.dtype)"
            )
        return noisy

    return entrance


def _shown(array: Any) -> str:
    if not hasattr(array, "dtype"):
        return "None" if array is None else f"a {type(array).__name__}"
    return f"{array.dtype} of shape {tuple(array.shape)}"


class Noise(Marked):
    """The base: a strength in a range, and a name of the form that `parse_noise` reads."""

    form: str
    low, high = 0.0, 1.0
    cuts = False
    """Whether values are cut to [0, 1]; data beyond are then refused, once, before they are cut."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Let `__call__` have floating numbers alone."""
        super().__init_subclass__(**options)
        if "__call__" in vars(cls):
            setattr(cls, "__call__", _guarded(vars(cls)["__call__"]))  # noqa: B010

    def __init__(self, strength: float) -> None:
        self.strength = real("the strength of noise", strength)
        if not (self.low < self.strength <= self.high and isfinite(self.strength)):
            bounds = f"lie in ({self.low:g}, {self.high:g}]"
            if not isfinite(self.high):
                bounds = f"be finite and more than {self.low:g}"
            raise ValueError(f"the strength of {self.form} noise must {bounds}, got {strength!r}")

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """x, corrupted."""
        raise NotImplementedError(f"{type(self).__name__} has no __call__")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.strength:g})"

    def __str__(self) -> str:
        return f"{self.form}:{self.strength:g}"


class GaussianNoise(Noise):
    """x + σn, n standard normal, cut to [0, 1] unless `clip` is False: x may be anything then."""

    form = "gaussian"
    high = float("inf")

    def __init__(self, strength: float, clip: bool = True) -> None:
        super().__init__(strength)
        self.cuts = bool(clip)

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """x + σn, cut to [0, 1] where it is to be."""
        noisy = backend.normal(tuple(x.shape), x.dtype, stream.next())
        noisy *= self.strength
        noisy += x
        return backend.xp.clip(noisy, 0, 1, out=noisy) if self.cuts else noisy

    def __repr__(self) -> str:
        return f"GaussianNoise({self.strength:g}{'' if self.cuts else ', clip=False'})"


class MaskingNoise(Noise):
    """Each value is set to 0 with probability p (Vincent et al., JMLR 11, 2010)."""

    form = "masking"

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """x where u ≥ p, else 0, u uniform."""
        u = backend.uniform(tuple(x.shape), "float32", stream.next())
        return x * (u >= self.strength)


class SaltPepperNoise(Noise):
    """Each value is set to 0 or to 1, with probability p / 2 each."""

    form = "salt-pepper"

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """0 where u < p/2, 1 where p/2 ≤ u < p, else x, u uniform."""
        xp = backend.xp
        u = backend.uniform(tuple(x.shape), "float32", stream.next())
        extreme = (u >= self.strength / 2).astype(x.dtype)
        return xp.where(u < self.strength, extreme, x)


class SquareNoise(Noise):
    """A square of each image is set to 0, anywhere in it: what is to be painted in.

    `strength` is its side in pixels. Images are (N, H, W), (N, H, W, C), or rows (N, D) of images
    of `image_shape`, by default of as many rows as columns. (Pathak et al., CVPR 2016.)
    """

    form = "square"
    high = float("inf")

    def __init__(self, strength: float, image_shape: Sequence[int] | None = None) -> None:
        super().__init__(positive_integer("the side of a square", pythonic(strength)))
        self.image_shape = None if image_shape is None else tuple(image_shape)

    def _image(self, x: Array) -> tuple[int, int, int]:
        """(H, W, C) of a sample; ValueError where there is no room for the square."""
        shape = tuple(int(n) for n in x.shape[1:])
        if len(shape) == 1:
            side = isqrt(shape[0])
            shape = self.image_shape or (side, side)
        image = (*shape, 1)[:3] if len(shape) > 1 else (0, 0, 0)
        if prod(image) != prod(x.shape[1:]):
            raise ValueError(f"samples of {tuple(x.shape[1:])} are no images: give image_shape")
        if min(image[:2]) < self.strength:
            raise ValueError(f"a square of side {self.strength:g} has no room in images of {shape}")
        return image[0], image[1], image[2]

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """x outside the square, whose first row is ⌊u (H - side + 1)⌋, u uniform; columns alike."""
        xp, side = backend.xp, self.strength
        h, w, c = self._image(x)
        u = backend.uniform((len(x), 2), "float32", stream.next())
        away = []
        for axis, n in enumerate((h, w)):
            middle = xp.floor(u[:, axis : axis + 1] * (n - side + 1)) + (side - 1) / 2
            away.append(xp.abs(xp.arange(n).astype("float32") - middle))
        outside = xp.maximum(away[0][:, :, None], away[1][:, None, :]) >= side / 2
        images = x.reshape(len(x), h, w, c) * outside[:, :, :, None]
        return images.astype(x.dtype, copy=False).reshape(x.shape)


_FORMS = {
    noise.form: noise for noise in (GaussianNoise, MaskingNoise, SaltPepperNoise, SquareNoise)
}


def parse_noise(text: str, image_shape: Sequence[int] | None = None) -> Noise:
    """The noise that a text such as "gaussian:0.5" names; ValueError that shows the forms.

    `image_shape` is what rows are images of, for those that have to know.
    """
    form, _, strength = text.partition(":")
    if form == SquareNoise.form and strength.isdecimal():
        return SquareNoise(int(strength), image_shape)
    try:
        return _FORMS[form](float(strength))
    except (KeyError, ValueError) as error:
        detail = "" if isinstance(error, KeyError) or not strength else f" ({error})"
        raise ValueError(
            f"noise must look like gaussian:0.5, masking:0.3, salt-pepper:0.2 or square:8, got "
            f"{text!r}{detail}"
        ) from error
