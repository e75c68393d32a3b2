"""Ask a served tagger through the clients of this package.

    python examples/client.py localhost:8500 song.mp3 other.ogg

Files may have any format, sample rate and length; they are decoded here and sent in windows.
"""

from __future__ import annotations

import asyncio
import sys

from keras_tagger import Tags
from keras_tagger.client import AsyncClient, Client


async def tag_all(address: str, paths: list[str]) -> list[Tags]:
    """Return the best three tags of every file; all requests are in flight at once."""
    async with AsyncClient(address, timeout_seconds=60) as client:
        return await asyncio.gather(*(client.tag(path, top=3) for path in paths))


def main(address: str, *paths: str) -> None:
    """Print the best tags of all files, and where the best tag of the first file is strongest."""
    for path, tags in zip(paths, asyncio.run(tag_all(address, list(paths))), strict=True):
        print(path, ", ".join(f"{tag.name} {tag.score:.3f}" for tag in tags))

    with Client(address) as client:
        heat = client.heatmap(paths[0]).top(1)
        print(f"{heat.tags[0]} is strongest at {heat.times[heat.values[0].argmax()]:.2f} s of {paths[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
