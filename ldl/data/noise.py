"""Noise for denoising: functions of a batch that corrupt it on its own device.

A noise is called as `noise(x, stream, backend)`: x (N, …) of values in [0, 1] on that backend, and
a `ldl.random.Stream` whose next draw it takes. One seed gives the same noise on every backend.
"""

from __future__ import annotations

from math import isfinite

from ldl.backend import Array, Backend
from ldl.random import Stream


class Noise:
    """The base: a strength in a range, and a name of the form that `parse_noise` reads."""

    form: str
    low, high = 0.0, 1.0

    def __init__(self, strength: float) -> None:
        self.strength = float(strength)
        if not (self.low < self.strength <= self.high and isfinite(self.strength)):
            raise ValueError(
                f"the strength of {self.form} noise must lie in ({self.low:g}, {self.high:g}], "
                f"got {strength!r}"
            )

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """x, corrupted."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.strength:g})"

    def __str__(self) -> str:
        return f"{self.form}:{self.strength:g}"


class GaussianNoise(Noise):
    """x + σn, n standard normal, cut to [0, 1]."""

    form = "gaussian"
    high = float("inf")

    def __call__(self, x: Array, stream: Stream, backend: Backend) -> Array:
        """x + σn, cut to [0, 1]."""
        noisy = backend.normal(tuple(x.shape), x.dtype, stream.next())
        noisy *= self.strength
        noisy += x
        return backend.xp.clip(noisy, 0, 1, out=noisy)


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


_FORMS = {noise.form: noise for noise in (GaussianNoise, MaskingNoise, SaltPepperNoise)}


def parse_noise(text: str) -> Noise:
    """The noise that a text such as "gaussian:0.5" names; ValueError that shows the forms."""
    form, _, strength = text.partition(":")
    try:
        return _FORMS[form](float(strength))
    except (KeyError, ValueError) as error:
        detail = "" if isinstance(error, KeyError) or not strength else f" ({error})"
        raise ValueError(
            f"noise must look like gaussian:0.5, masking:0.3 or salt-pepper:0.2, got "
            f"{text!r}{detail}"
        ) from error
