"""The table of strange files and what becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import strange_files
from sound_files import flac, wav


def test_a_row_compares_ffmpeg_with_the_package(tmp_path: Path) -> None:
    good, bad = tmp_path / "good.wav", tmp_path / "bad|name.wav"
    good.write_bytes(wav(steps=range(2)))
    bad.write_text("<b>no\naudio</b>")
    rows = [strange_files.read(good, "half a second"), strange_files.read(bad), strange_files.read(tmp_path)]
    assert rows[0] == strange_files.Row("good.wav", "half a second", 0.5, 0.5, "")
    assert (rows[1].ffmpeg_seconds, rows[1].seconds) == (0.0, None)
    assert str(tmp_path) not in rows[1].message
    assert rows[1].message.startswith("Expected audio")
    assert (rows[2].ffmpeg_seconds, rows[2].seconds) == (None, None)
    lines = strange_files.table(rows).splitlines()
    assert lines[2] == "| `good.wav` | half a second | 0.50 | 0.50 |  |"
    assert lines[3].count(" | ") == 4
    assert lines[4].split(" | ")[2:4] == ["-", "-"]


def test_the_page_holds_other_files_and_the_chosen_ones(tmp_path: Path) -> None:
    others = tmp_path / "others"
    others.mkdir()
    (others / "mine.flac").write_bytes(flac(range(2)))
    page = tmp_path / "page.md"
    root = Path(strange_files.__file__).parent.parent
    subprocess.run(
        [sys.executable, root / "tools/strange_files.py", f"--out={page}", f"--also={others}", "--only=_s16,one_byte"],
        env={**os.environ, "PYTHONPATH": str(root)}, check=True,
    )  # fmt: skip
    rows = [line for line in page.read_text().splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == ["mine.flac", "wav_s16.wav", "wav_ext_s16.wav", "one_byte.mp3"]
    assert " | 0.50 | 0.50 | " in rows[0]
    assert " | 3.00 | 3.00 | " in rows[1]
    assert "Expected audio" in rows[3]
