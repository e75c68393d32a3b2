"""Find the soundfonts of each split."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from keras_tagger.errors import ManifestNotFoundError

SOUNDFONTS = {
    "FluidR3": "sf2/FluidR3_GM.sf2",
    "TimGM6mb": "sf2/TimGM6mb.sf2",
    "MuseScore General": "sf3/MuseScore_General.sf3",
}
SOUNDFONTS_OF = {"train": ("FluidR3", "TimGM6mb"), "valid": ("FluidR3", "TimGM6mb"), "test": ("MuseScore General",)}


def find_soundfonts(folder: str, splits: Iterable[str]) -> dict[str, str]:
    """Find the paths of the soundfonts that the splits need, by name.

    Raises:
        ManifestNotFoundError: a soundfont or the program fluidsynth is not there.
    """
    if shutil.which("fluidsynth") is None:
        raise ManifestNotFoundError(
            "expected the program fluidsynth, which renders the scores. Received: a PATH without it"
        )
    found = {}
    for name in sorted({name for split in splits for name in SOUNDFONTS_OF[split]}):
        found[name] = str(Path(folder) / SOUNDFONTS[name])
        if not Path(found[name]).is_file():
            raise ManifestNotFoundError(
                f"expected the soundfont {name}. Received: '{found[name]}', which does not exist"
            )
    return found
