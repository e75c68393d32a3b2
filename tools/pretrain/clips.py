"""Cut a corpus into clips of 30 s at 16 kHz, split by whole packages: what the teacher labels and `fit` trains on.

    python tools/corpus.py --collection pretraining --out_dir data/pretraining
    python -m pretrain.clips --corpus data/pretraining --out data/clips

OUT/PACKAGE/NNN_MMMM.flac is clip MMMM of the package's track NNN, mono, 16 bit; OUT/manifest.jsonl has a row per clip
with path, split, group (the piece, so that versions stay together), package and licence. A track that is done is not
decoded again.
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
from keras_tagger.files import replacing

SAMPLE_RATE = 16000
CLIP_SECONDS = 30.0

# Chosen by kind before anything was trained: a mixed, an orchestral and folk, an electronic and a rock package are
# never trained on or looked at before the end; others, again of different kinds, decide between recipes.
SPLITS = {
    "test": ("supertuxkart-data", "unknown-horizons", "colobot-common-sounds", "warmux-data"),
    "valid": ("megaglest-data", "trackballs-data", "zaz-data", "pushover-data"),
}

# What a clip's row has of its track's.
_ABOUT = ("group", "package", "track", "licence")

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("corpus", None, "Folder that tools/corpus.py made.", required=True)
    flags.DEFINE_string("out", None, "Folder of the clips.", required=True)


def main(argv: Sequence[str]) -> None:
    """Cut every track and print how much there is of each split."""
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
    """The split of a package; "train" for all that are not named in `SPLITS`."""
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
        missing = [column for column in ("path", *_ABOUT) if column not in (reader.fieldnames or ())]
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
                rows.append({**clip, "tags": [track["package"]], "split": split_of(track["package"]), **about})
            bar.update()
    with replacing(out / "manifest.jsonl") as temporary:
        temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return rows


def _cut(track: Path, out: Path, place: str) -> list[dict[str, Any]]:
    """Write the clips of one track unless its list, which comes last, is there."""
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
    with replacing(done) as temporary:
        temporary.write_text(json.dumps(clips), "utf-8")
    return clips


if __name__ == "__main__":
    define_flags()
    app.run(main)
