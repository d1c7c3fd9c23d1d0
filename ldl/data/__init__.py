"""Data: batches, noise, and the digits to try things on."""

from ldl.data.batching import Arrays
from ldl.data.noise import GaussianNoise, MaskingNoise, Noise, SaltPepperNoise, parse_noise

__all__ = [
    "Arrays",
    "GaussianNoise",
    "MaskingNoise",
    "Noise",
    "SaltPepperNoise",
    "parse_noise",
]
