"""tools/pretrain/solos.py: clips in which instruments take short turns, a function of seed and number."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from keras_tagger.errors import ManifestError
from made_scores import FOLDER, PIECES, needs_fluidsynth
from pretrain.score_labels import label, sounding
from pretrain.score_soundfonts import find_soundfonts
from pretrain.solos import SECONDS, TARGETS, make_solos, render_clip, solos, write_manifest


def test_turns_are_short_and_alone() -> None:
    """Lines of one long note show where each turn begins and ends."""
    rng = np.random.default_rng(0)
    for n_players in (2, 3, 4):
        kept = solos([[(0.0, 60.0, 60 + player)] for player in range(n_players)], 60.0, rng)
        turns = sorted((start, end, player) for player, line in enumerate(kept) for start, end, _ in line)
        assert turns[0][0] == 0.0
        assert turns[-1][1] == 60.0
        for (_, end, player), (start, _, following) in itertools.pairwise(turns):
            assert end == start
            assert player != following
        assert all(0.5 <= end - start <= 3.0 for start, end, _ in turns[:-1])


@pytest.fixture(scope="module")
def plans() -> list[tuple]:
    return [make_solos(PIECES, number, 0) for number in range(2 * len(TARGETS))]


def test_plans_ask_for_every_instrument_and_say_when(plans: list[tuple]) -> None:
    assert plans == [make_solos(PIECES, number, 0) for number in range(2 * len(TARGETS))]
    assert make_solos(PIECES, 0, 1) != plans[0]
    assert sorted(target for _, target in plans) == sorted(2 * TARGETS)
    for plan, target in plans:
        times = label(plan.instruments, plan.seconds)[target]
        assert 1.5 <= sum(end - start for start, end in times) <= 14.0
        assert len([instrument for instrument in plan.instruments if instrument.notes]) >= 2
        assert plan.soundfont == "MuseScore General"
        # The target is not heard while others play, but for what rings on after its turn.
        first = plan.instruments[0]
        alone = sum(end - start for start, end in sounding(first, SECONDS))
        assert alone == pytest.approx(sum(end - start for start, end in times), abs=0.05)


@needs_fluidsynth
def test_a_clip_is_rendered_once(tmp_path: Path) -> None:
    fonts = find_soundfonts(str(FOLDER), ["test"])
    render_clip(tmp_path, PIECES, fonts, 0, 0)
    content, written = (tmp_path / "00000.flac").read_bytes(), (tmp_path / "00000.json").stat().st_mtime_ns
    render_clip(tmp_path, PIECES, fonts, 0, 0)
    assert (tmp_path / "00000.json").stat().st_mtime_ns == written
    (tmp_path / "00000.json").unlink()
    render_clip(tmp_path, PIECES, fonts, 0, 0)
    assert (tmp_path / "00000.flac").read_bytes() == content
    with pytest.raises(ManifestError, match="expected a clip of seed 1. Received: one of seed 0"):
        render_clip(tmp_path, PIECES, fonts, 0, 1)
    (row,) = write_manifest(tmp_path, 1)
    assert json.loads((tmp_path / "manifest.jsonl").read_text()) == row
    waveform, rate = soundfile.read(tmp_path / row["path"])
    assert (rate, len(waveform)) == (16000, 320000)
    assert json.loads((tmp_path / row["labels"]).read_text())["tags"][row["target"]]
