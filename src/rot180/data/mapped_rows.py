"""Some rows of an array that lies in a file: read when they are asked for, never all at once."""

from typing import Any

import numpy as np

from rot180.arrays import Array, Shape


class MappedRows:
    """base[rows], not yet read. base: a memory-mapped array; rows (N,): which of its first axis, in which order.

    Reading takes it for an array of shape (N, ...): a slice or indices give an array in memory.
    """

    def __init__(self, base: Array, rows: Array) -> None:
        self.base, self.rows = base, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, key: Any) -> Array:
        return np.asarray(self.base[self.rows[key]])

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.asarray(self[:], dtype)

    @property
    def shape(self) -> Shape:
        """As an array's."""
        return len(self.rows), *self.base.shape[1:]

    @property
    def ndim(self) -> int:
        """As an array's."""
        return self.base.ndim

    @property
    def dtype(self) -> np.dtype[Any]:
        """As an array's."""
        return self.base.dtype

    def take(self, indices: Array | slice) -> "MappedRows":
        """Fewer, or in another order."""
        return MappedRows(self.base, self.rows[indices])
