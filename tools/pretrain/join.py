"""Join manifests, such as those of the teacher's clips and the rendered scores, into one for `fit`.

    python tools/pretrain/join.py --out data/pretrain.jsonl data/labels/manifest.jsonl data/scores/manifest.jsonl

Rows keep their order and columns; paths become relative to the folder of the new manifest. Without --test, rows of the
split "test" are left out, so that nothing that reads the new manifest can use them. --one_in 4 keeps a quarter of the
training clips, chosen by their names. --learn_valid moves the split "valid" to "train" for the last run, after which no
choices remain.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import app, flags

from keras_tagger.audio import is_remote
from keras_tagger.data.manifest_rows import read_rows
from keras_tagger.errors import KerasTaggerError
from keras_tagger.files import write_json_lines

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out", None, "The manifest to write (.jsonl).", required=True)
    flags.DEFINE_bool("test", False, "Whether to keep rows of the split test.")
    flags.DEFINE_integer("one_in", 1, "Keep one in this many clips of the split train.", lower_bound=1)
    flags.DEFINE_bool("learn_valid", False, "Whether to move clips of the split valid to train.")


def main(argv: Sequence[str]) -> None:
    """Join the manifests on the command line and print the number of clips of each split."""
    if len(argv) < 2:
        raise app.UsageError("expected manifests to join. Received: none")
    try:
        rows = join([Path(path) for path in argv[1:]], Path(FLAGS.out), FLAGS.test, FLAGS.one_in, FLAGS.learn_valid)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    for split in ("train", "valid", "test"):
        print(f"{split:6} {sum(row.get('split') == split for row in rows):6} clips")


def join(
    manifests: Sequence[Path], out: Path, test: bool = False, one_in: int = 1, learn_valid: bool = False
) -> list[dict[str, Any]]:
    """Write several manifests as one; return its rows.

    Of the split train those are kept whose path in the new manifest has an MD5 that `one_in` divides.
    """
    rows = []
    for manifest in manifests:
        for _, row in read_rows(manifest):
            if row.get("split") == "test" and not test:
                continue
            if row.get("split") == "valid" and learn_valid:
                row["split"] = "train"
            for column in ("path", "labels"):
                if row.get(column) and not is_remote(str(row[column])):
                    row[column] = Path(os.path.relpath(manifest.parent / str(row[column]), out.parent)).as_posix()
            if row.get("split") == "train" and int(hashlib.md5(str(row["path"]).encode()).hexdigest(), 16) % one_in:
                continue
            rows.append(row)
    write_json_lines(out, rows)
    return rows


if __name__ == "__main__":
    define_flags()
    app.run(main)
