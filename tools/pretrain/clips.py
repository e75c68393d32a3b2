"""Cut a corpus into clips of 30 s at 16 kHz, split by package, for the teacher to label and `fit` to train on.

    python tools/corpus.py --collection pretraining --out_dir data/pretraining
    python -m pretrain.clips --corpus data/pretraining --out data/clips

OUT/PACKAGE/NNN_MMMM.flac is clip MMMM of the package's track NNN, mono, 16 bit; OUT/manifest.jsonl has a row per clip
with path, tags (those of the track), split, group (the piece, so that versions stay together), package and licence. A
finished track is not decoded again.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.data.prepare import segments_of, to_pcm
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import write_json, write_json_lines

SAMPLE_RATE = 16000
CLIP_SECONDS = 30.0

# Chosen by kind before any training. The test split has a mixed, an orchestral and folk, an electronic and a rock
# package that are not used before the end; the valid split, again of different kinds, decides between recipes.
SPLITS = {
    "test": ("supertuxkart-data", "unknown-horizons", "colobot-common-sounds", "warmux-data"),
    "valid": (
        *("megaglest-data", "trackballs-data", "zaz-data", "pushover-data"),
        # Of the collection `more`.
        *("hyperrogue-music", "xmoto-data"),
    ),
}

# The columns of a track that its clips keep.
_ABOUT = ("group", "package", "track", "licence")

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("corpus", None, "Folder that tools/corpus.py made.", required=True)
    flags.DEFINE_string("out", None, "Folder of the clips.", required=True)


def main(argv: Sequence[str]) -> None:
    """Cut every track and print the size of each split."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        rows = cut_corpus(Path(FLAGS.corpus), Path(FLAGS.out))
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    for split in ("train", "valid", "test"):
        seconds = [row["seconds"] for row in rows if row["split"] == split]
        print(f"{split:6} {len(seconds):5} clips {sum(seconds) / 3600:6.2f} hours")


def split_of(package: str) -> str:
    """Return the split of a package, "train" if `SPLITS` does not name it."""
    return next((split for split, packages in SPLITS.items() if package in packages), "train")


def cut_corpus(corpus: Path, out: Path) -> list[dict[str, Any]]:
    """Cut the tracks of `corpus/manifest.csv`, write `out/manifest.jsonl` and return its rows.

    A track that cannot be decoded is logged and left out.

    Raises:
        ManifestError: the manifest has not the columns of `tools/corpus.py`.
        OSError: there is no such manifest, or `out` cannot be written.
    """
    with open(corpus / "manifest.csv", encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        missing = [column for column in ("path", "tags", *_ABOUT) if column not in (reader.fieldnames or ())]
        if missing:
            raise ManifestError(
                f"{corpus / 'manifest.csv'}: expected a manifest of tools/corpus.py. Received: no column {missing[0]}"
            )
        tracks = list(reader)
    places = []
    numbers: dict[str, int] = {}
    for track in tracks:
        number = numbers[track["package"]] = numbers.get(track["package"], -1) + 1
        places.append(f"{track['package']}/{number:03d}")
    rows: list[dict[str, Any]] = []
    with ThreadPoolExecutor(2) as pool, tqdm(total=len(tracks), desc="cut", unit="track") as bar:
        waiting = [
            pool.submit(_cut, corpus / track["path"], out, place) for track, place in zip(tracks, places, strict=True)
        ]
        for track, done in zip(tracks, waiting, strict=True):
            try:
                clips = done.result()
            except KerasTaggerError as error:
                logging.warning("%s: left out: %s", track["path"], error)
                clips = []
            for clip in clips:
                about = {name: track[name] for name in _ABOUT}
                rows.append({**clip, "tags": track["tags"].split(";"), "split": split_of(track["package"]), **about})
            bar.update()
    write_json_lines(out / "manifest.jsonl", rows)
    return rows


def _cut(track: Path, out: Path, place: str) -> list[dict[str, Any]]:
    """Write the clips of one track, unless their list exists, which is written last."""
    import soundfile

    done = out / f"{place}.json"
    if done.exists():
        return json.loads(done.read_text("utf-8"))
    done.parent.mkdir(parents=True, exist_ok=True)
    clips = []
    for number, clip in enumerate(segments_of(audio.blocks(track, SAMPLE_RATE), int(CLIP_SECONDS * SAMPLE_RATE))):
        path = out / f"{place}_{number:04d}.flac"
        soundfile.write(path, to_pcm(clip), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
        clips.append({"path": path.relative_to(out).as_posix(), "seconds": round(len(clip) / SAMPLE_RATE, 3)})
    write_json(done, clips)
    return clips


if __name__ == "__main__":
    define_flags()
    app.run(main)
