"""pyarrow, which reads and writes Parquet: the extra `parquet`."""

from __future__ import annotations

from typing import Any

from keras_tagger.errors import CatalogError


def arrow() -> tuple[Any, Any]:
    """Return pyarrow and pyarrow.parquet.

    Raises:
        CatalogError: If pyarrow is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise CatalogError(
            'expected pyarrow, which writes Parquet, from pip install "keras_tagger[parquet]". Received: none.'
        ) from None
    return pyarrow, pyarrow.parquet
