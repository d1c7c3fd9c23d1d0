"""Kernels: the few hot operations that a backend may do in its own way.

Each has a generic body here, written in the array namespace `xp`; that body is the reference.
"""

from ldl.kernels.data import Data
from ldl.kernels.functions import Functions
from ldl.kernels.functions import below_max as below_max
from ldl.kernels.images import Images
from ldl.kernels.images import Window as Window
from ldl.kernels.types import Array as Array
from ldl.kernels.types import DType as DType
from ldl.kernels.updates import Updates


class Kernels(Images, Functions, Data, Updates):
    """The generic bodies."""
