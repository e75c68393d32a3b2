"""Short music files of every format that `keras-tagger write` knows, made with FFmpeg from a packaged clip."""

from __future__ import annotations

import subprocess
from importlib import resources
from pathlib import Path

import imageio_ffmpeg

FFMPEG = imageio_ffmpeg.get_ffmpeg_exe()
CLIP = Path(str(resources.files("keras_tagger") / "clips" / "jazz_vibes.ogg"))
# Options of FFmpeg by the name of the file.
KINDS = {
    "id3v23.mp3": ["-id3v2_version", "3", "-metadata", "title=Lied", "-metadata", "date=2003"],
    "id3v24_v1.mp3": ["-id3v2_version", "4", "-write_id3v1", "1", "-metadata", "title=Ürlaub", "-metadata", "TBPM=120"],
    "untagged.mp3": ["-id3v2_version", "0", "-write_xing", "0"],
    "song.flac": ["-metadata", "title=x", "-metadata", "BPM=98"],
    "song.ogg": ["-c:a", "libvorbis", "-metadata", "artist=someone"],
    "song.opus": ["-c:a", "libopus"],
    "flac.oga": ["-c:a", "flac"],
    "end.m4a": ["-c:a", "aac", "-metadata", "title=x"],
    "start.m4a": ["-c:a", "aac", "-movflags", "+faststart"],
    "song.wma": ["-metadata", "title=x"],
    "song.wav": [],
    "song.aiff": [],
}


def make(folder: Path, seconds: float = 0.5) -> list[Path]:
    """A file of each kind, in one run of FFmpeg."""
    command = [FFMPEG, "-v", "error", "-i", str(CLIP)]
    for name, options in KINDS.items():
        command += ["-map", "0:a", "-map_metadata", "-1", "-ss", "3", "-t", str(seconds), *options, str(folder / name)]
    subprocess.run(command, check=True, capture_output=True)
    return [folder / name for name in KINDS]


def hashes(path: Path) -> tuple[str, str]:
    """FFmpeg's hashes of the encoded frames and of the decoded samples."""
    command = [FFMPEG, "-v", "error", "-i", str(path)]
    command += ["-map", "0:a", "-c", "copy", "-f", "hash", "-", "-map", "0:a", "-f", "hash", "-"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    frames, samples = done.stdout.splitlines()
    return frames, samples
