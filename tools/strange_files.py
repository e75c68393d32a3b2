r"""Make the strange audio files of tests/audio/faults.py, read them, and print a table of what becomes of each.

    python tools/strange_files.py --out docs/strange_files.md
    python tools/strange_files.py --folder /tmp/strange --also more/files

The table compares the seconds that ffmpeg decodes with those that keras_tagger reads, and shows what keras_tagger says.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from absl import app, flags

from keras_tagger import audio
from keras_tagger.errors import AudioError, AudioWarning
from keras_tagger.files import write_text

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests" / "audio"))

from faults import BY_NAME, ENTRIES
from sound_files import ffmpeg

RATE = 16000

HEADER = """\
# Strange files

Audio files are often damaged, badly labelled or joined by hand. These are made by `tests/audio/faults.py`, whose tests
state what must become of each; `python tools/strange_files.py --out docs/strange_files.md` writes this page. It
compares the seconds of sound that ffmpeg decodes with those that keras_tagger reads. Where sound is missing,
keras_tagger says so with a warning or an error, which gives the place.
"""


@dataclass(frozen=True)
class Row:
    """What becomes of a file.

    Attributes:
        name: The name of the file.
        about: What is strange about it.
        ffmpeg_seconds: The length of the sound that ffmpeg decodes, or None if it was not asked.
        seconds: The length of what keras_tagger reads, or None if it refuses the file.
        message: The warnings, or the error.
    """

    name: str
    about: str
    ffmpeg_seconds: float | None
    seconds: float | None
    message: str


def read(path: Path, about: str = "") -> Row:
    """Read a file with ffmpeg and with keras_tagger."""
    warnings: list[AudioWarning] = []
    seconds = None
    try:
        seconds = sum(len(block) for block in audio.blocks(path, RATE, warnings=warnings)) / RATE
        message = " ".join(str(warning) for warning in warnings)
    except AudioError as error:
        message = str(error)
    return Row(
        path.name,
        about,
        ffmpeg_seconds(path) if path.is_file() else None,
        seconds,
        message.replace(f"{path.parent}/", ""),
    )


def ffmpeg_seconds(path: Path) -> float:
    """Return the length of what ffmpeg decodes of a file's first audio stream; 0 if it cannot read the file."""
    command = [ffmpeg(), "-v", "quiet", "-nostdin", "-i", str(path), "-map", "0:a:0", "-ac", "1", "-ar", str(RATE)]
    sound = subprocess.run([*command, "-f", "s16le", "-"], stdout=subprocess.PIPE, check=False).stdout
    return len(sound) / 2 / RATE


def table(rows: Iterable[Row]) -> str:
    """Format rows as a Markdown table."""

    def cell(text: str) -> str:
        return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")

    def number(seconds: float | None) -> str:
        return "-" if seconds is None else f"{seconds:.2f}"

    lines = ["| file | what is strange | ffmpeg, s | read, s | warning or error |", "|---|---|---|---|---|"]
    lines += [
        f"| `{row.name}` | {cell(row.about)} | {number(row.ffmpeg_seconds)} | {number(row.seconds)} | "
        f"{cell(row.message)} |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


FLAGS = flags.FLAGS
flags.DEFINE_string("out", None, "Markdown file to write; without it the table is printed.")
flags.DEFINE_string("also", None, "Folder of other files that the table shows first.")
flags.DEFINE_string("folder", None, "Folder to keep the files in; without it they are deleted.")
flags.DEFINE_list("only", None, "Parts of the names of the files to make; without it all.")


def main(argv: list[str]) -> None:
    """Make the files, read them and write the table."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]}.")
    parts = []
    if FLAGS.also:
        also = sorted(path for path in Path(FLAGS.also).iterdir() if path.is_file())
        parts.append(table(read(path, BY_NAME[path.name].about if path.name in BY_NAME else "") for path in also))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(FLAGS.folder or temporary)
        folder.mkdir(parents=True, exist_ok=True)
        chosen = [entry for entry in ENTRIES if not FLAGS.only or any(part in entry.name for part in FLAGS.only)]
        if chosen:
            parts.append(table(read(entry.write(folder), entry.about) for entry in chosen))
    text = "\n".join([HEADER, *parts])
    if FLAGS.out:
        write_text(Path(FLAGS.out), text)
    else:
        print(text, end="")


if __name__ == "__main__":
    app.run(main)
