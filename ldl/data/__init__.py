"""Data: batches, noise, and the digits to try things on."""

from ldl.data.batching import Arrays
from ldl.data.datasets import Dataset, load_dataset
from ldl.data.mnist import DataUnavailableError
from ldl.data.noise import GaussianNoise, MaskingNoise, Noise, SaltPepperNoise, parse_noise

__all__ = [
    "Arrays",
    "DataUnavailableError",
    "Dataset",
    "GaussianNoise",
    "MaskingNoise",
    "Noise",
    "SaltPepperNoise",
    "load_dataset",
    "parse_noise",
]
