"""Types of NumPy arrays, by what is in them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["Float32Array", "FloatArray", "IntArray"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Float32Array = NDArray[np.float32]
