"""Ask a served tagger with the package's own clients.

    python examples/client.py localhost:8500 song.mp3 other.ogg

Files may have any format, rate and length; they are decoded here and sent in windows.
"""

from __future__ import annotations

import asyncio
import sys

from keras_tagger.client import AsyncClient, Client


async def tag_all(address: str, paths: list[str]) -> list[dict[str, float]]:
    """The best three tags of every file, all of them asked for at once."""
    async with AsyncClient(address, timeout_seconds=60) as client:
        return await asyncio.gather(*(client.tag(path, top=3) for path in paths))


def main(address: str, *paths: str) -> None:
    """Print the best tags of all files, and where the first one's best tag is heard."""
    for path, tags in zip(paths, asyncio.run(tag_all(address, list(paths))), strict=True):
        print(path, ", ".join(f"{tag} {score:.3f}" for tag, score in tags.items()))

    with Client(address) as client:
        heat = client.heatmap(paths[0]).top(1)
        print(f"{heat.tags[0]} speaks most at {heat.times[heat.values[0].argmax()]:.2f} s of {paths[0]}")


if __name__ == "__main__":
    main(*sys.argv[1:])
