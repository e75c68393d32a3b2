"""Progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tqdm import tqdm


def progress_bar(items: Iterable[Any] | None = None, *, hidden: bool = False, **options: Any) -> tqdm[Any]:
    """Make a progress bar, which is shown only if stderr is a terminal.

    Args:
        items: Items to iterate over; None for a bar that is updated by hand.
        hidden: Whether to show no bar at all.
        **options: Arguments of `tqdm`, such as total, desc and unit.

    Example:
        >>> for file in progress_bar(files, desc="decode", unit="file"):
        ...     decode(file)
    """
    from tqdm import tqdm

    # With None, tqdm shows no bar if stderr is not a terminal.
    return tqdm(items, disable=True if hidden else None, **options)
