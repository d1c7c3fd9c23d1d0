"""Data: batches, noise, and the digits to try things on."""

from typing import TYPE_CHECKING, Any

from ldl.data.batching import Arrays
from ldl.data.noise import (
    GaussianNoise,
    MaskingNoise,
    Noise,
    SaltPepperNoise,
    SquareNoise,
    parse_noise,
)
from ldl.data.shards import Shard

if TYPE_CHECKING:
    from ldl.data.datasets import Dataset, load_dataset
    from ldl.data.mnist import DataUnavailableError

__all__ = [
    "Arrays",
    "DataUnavailableError",
    "Dataset",
    "GaussianNoise",
    "MaskingNoise",
    "Noise",
    "SaltPepperNoise",
    "Shard",
    "SquareNoise",
    "load_dataset",
    "parse_noise",
]


def __getattr__(name: str) -> Any:
    """Import the data sets when they are asked for: reading files takes half of ldl's import."""
    if name in __all__:
        from ldl.data import datasets

        return getattr(datasets, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
