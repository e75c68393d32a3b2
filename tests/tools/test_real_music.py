"""tools/real_music.py on repositories made here and on made-up scores."""

from __future__ import annotations

import dataclasses
import json
import subprocess

import numpy as np
import pytest
import soundfile

import tiny
from keras_tagger.errors import ManifestError
from keras_tagger.metrics import roc_auc
from real_clips import (
    SAMPLE_RATE,
    SOURCES,
    Checkout,
    Clip,
    Labels,
    Row,
    clips_to_measure,
    collect,
    excerpts,
    read_clips,
    read_table,
    ultrastar_lines,
)
from real_measures import MSD, MTAT, NAMES, VOICES, Resampling, Scored, macro, measure, overlap, recall_at
from real_music import goal_table, table, to_json
from real_thresholds import above, check_thresholds, fit_thresholds, voice_rates

SONG = "#TITLE:A\n#BPM:60\n#GAP:1000\n: 0 80 0 la\n- 81\n: 84 80 0 la\nE\n"


def sound(path, seconds=1.0, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = np.random.default_rng(seed).uniform(-0.3, 0.3, int(seconds * SAMPLE_RATE))
    soundfile.write(path, samples, SAMPLE_RATE)


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *who, "-C", folder, *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A repository of which one file was deleted, one is a pointer, one is no audio and one a duplicate."""
    folder = tmp_path_factory.mktemp("curated")
    git(folder, "init", "-q")
    sound(folder / "blues.00001.wav", seed=1)
    sound(folder / "pop.00020.wav", seed=2)
    sound(folder / "jazz.00052.wav", seed=3)
    (folder / "metal.00000.wav").write_text("version https://git-lfs.github.com/spec/v1\n")
    (folder / "rock.00000.wav").write_text("no audio")
    (folder / "pop.00021.wav").write_bytes((folder / "pop.00020.wav").read_bytes())
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "music")
    git(folder, "rm", "-q", "blues.00001.wav")
    git(folder, "commit", "-q", "-m", "less music")
    return folder


def bare(repository):
    return repository / ".git"


@pytest.mark.parametrize("form", [lambda folder: folder, bare], ids=["work tree", "git directory"])
def test_collect_finds_deleted_files_and_gives_artists_labels(repository, form, tmp_path):
    clips, failed = collect({"gtzan-curated": form(repository)}, tmp_path)
    assert clips == read_clips(tmp_path)
    found = {clip.clip_id: clip for clip in clips}
    assert set(found) == {f"gtzan-curated/{name}.wav" for name in ("blues.00001", "pop.00020", "jazz.00052")}
    assert found["gtzan-curated/blues.00001.wav"].labels == Labels("blues", voice="male")
    assert found["gtzan-curated/blues.00001.wav"].group == "John Lee Hooker"
    assert found["gtzan-curated/pop.00020.wav"].labels.voice == "female"
    assert found["gtzan-curated/jazz.00052.wav"].group == "gtzan-curated/jazz.00052"
    assert not any(clip.learn for clip in clips)
    assert [reason.split(":")[0] for reason in failed] == [
        "gtzan-curated/metal.00000.wav",
        "gtzan-curated/rock.00000.wav",
    ]
    samples = np.load(tmp_path / found["gtzan-curated/pop.00020.wav"].waveform)
    expected, _ = soundfile.read(repository / "pop.00020.wav", dtype="float32")
    np.testing.assert_allclose(samples, expected, atol=1e-6)


def test_clips_that_may_be_learnt_are_not_measured(tmp_path):
    clips = [
        Clip(f"{source}/{index}", source, "x.npy", "a", "report", "CC0", learn, 1.0, Labels())
        for index, (source, learn) in enumerate([("agb", True), ("fsdkaggle", True), ("lackthereof", False)])
    ]
    (tmp_path / "manifest.jsonl").write_text("\n".join(json.dumps(dataclasses.asdict(clip)) for clip in clips))
    assert read_clips(tmp_path) == clips
    assert [clip.source for clip in clips_to_measure(tmp_path)] == ["fsdkaggle", "lackthereof"]


def test_plain_folder_is_a_checkout(repository, tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.wav").write_bytes(b"x")
    assert Checkout(tmp_path).paths() == ["sub/a.wav"]
    assert Checkout(tmp_path).read("sub/a.wav") == b"x"
    assert Checkout(repository).read("blues.00001.wav")[:4] == b"RIFF"


def test_missing_folders_and_unknown_sources_are_refused(tmp_path):
    with pytest.raises(ManifestError, match="expected the folder of a repository"):
        collect({"agb": tmp_path / "none"}, tmp_path)
    with pytest.raises(ManifestError, match=r"expected sources among .*Received: 'nothing'"):
        collect({"nothing": tmp_path}, tmp_path)
    with pytest.raises(ManifestError, match=r"expected manifest\.jsonl"):
        read_clips(tmp_path)


def test_songs_with_lyrics_give_sung_and_instrumental_clips(tmp_path):
    folder = tmp_path / "songs/Creative Commons/Joshua Morin - On the run"
    sound(folder / "audio.wav", 60)
    (folder / "song.txt").write_text(SONG)
    clips, failed = collect({"ultrastar": tmp_path / "songs"}, tmp_path / "out")
    assert not failed
    assert [(clip.clip_id.partition("#")[2], clip.labels.singing, clip.labels.voice) for clip in clips] == [
        ("1-16", True, "male"),
        ("22-37", True, "male"),
        ("43-58", False, None),
    ]
    assert {(clip.group, clip.learn, clip.licence, clip.seconds) for clip in clips} == {
        ("Joshua Morin", True, "CC BY-SA", 15.0)
    }
    assert len(np.load(tmp_path / "out" / clips[0].waveform)) == 15 * SAMPLE_RATE


def test_lines_of_ultrastar():
    assert list(ultrastar_lines(SONG)) == [(1.0, 21.0), (22.0, 42.0)]


def test_excerpts():
    assert excerpts(44.0, None) == [(0.0, 44.0, None)]
    assert excerpts(200.0, None) == [(50, 80, None), (120, 150, None)]
    assert excerpts(46.0, None) == [(12, 42, None), (16, 46, None)]
    # A song that is sung throughout has no instrumental excerpt.
    assert all(singing for _, _, singing in excerpts(60.0, [(0.0, 60.0)]))


def test_table_names_every_clip_once():
    rows = read_table()
    assert {row.source for row in rows} == {*SOURCES, "gtzan"}
    numbers = []
    for row in rows:
        if row.source == "gtzan":
            genre, _, span = row.files.partition(".")
            first, _, last = span.partition("-")
            assert row.artist
            numbers += [(genre, number) for number in range(int(first), int(last or first) + 1)]
    assert len(numbers) == len(set(numbers)) > 800


def test_wrong_tables_are_refused(tmp_path):
    for line, message in (("agb,a.wav,,tempo=fast,", "genre=rock"), ("other,a.wav,,,", "expected a source")):
        (tmp_path / "table.csv").write_text(f"source,files,artist,labels,licence\n{line}\n")
        with pytest.raises(ManifestError, match=message):
            read_table(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("licence", "learn"),
    [
        *(("CC0", True), ("CC BY", True), ("CC BY-SA 3.0", True), ("public domain", True), ("CC0 or CC BY", True)),
        *(("CC BY-NC", False), ("CC BY-ND", False), ("CC BY-NC-SA", False), ("", False), ("unknown", False)),
    ],
)
def test_only_free_licences_may_be_learnt(licence, learn):
    assert Row("agb", "*", "", Labels(), licence).learn is learn


def clip(number, labels, source="archeology", group=None):
    return Clip(f"{number}", source, f"{number}.npy", group or f"artist {number}", "develop", "", False, 3.0, labels)


@pytest.fixture(scope="module")
def clips():
    genres = ["blues", "country", "disco", "hiphop", "jazz", "metal", "pop", "rock", "classical", "reggae"]
    found = [clip(f"g{i}", Labels(genres[i % 10]), "gtzan-curated") for i in range(100)]
    found += [clip(f"s{i}", Labels(singing=True, voice=["female", "male"][i % 2])) for i in range(60)]
    found += [clip(f"i{i}", Labels(singing=False)) for i in range(60)]
    found += [clip(f"a{i}", Labels(singing=True, a_cappella=True)) for i in range(10)]
    names = ["guitar", "cello", "flute", "drums", "violin"]
    found += [clip(f"n{i}", Labels(instruments=(names[i % 5],), single_sound=True), "fsdkaggle") for i in range(60)]
    return found


def scored(clips, noise=0.0, seed=0):
    """Scores that are right about every label, with some noise."""
    rng = np.random.default_rng(seed)
    scores = {}
    for vocabulary, tags in NAMES.items():
        values = rng.uniform(0.05, 0.3, (len(clips), len(tags)))
        for row, clip in zip(values, clips, strict=True):
            said = set(clip.labels.instruments)
            said |= {"Hip-Hop" if clip.labels.genre == "hiphop" else clip.labels.genre}
            said |= {"dance"} if clip.labels.genre == "disco" else set()
            if clip.labels.singing:
                said |= set(VOICES[vocabulary])
            if clip.labels.voice:
                male, female = ("male", "man"), ("female", "woman")
                wrong = female if clip.labels.voice == "male" else male
                said = {tag for tag in said if tag is None or not tag.startswith(wrong)}
            row[[tag in said for tag in tags]] += 0.6
        values = np.clip(values + noise * rng.normal(size=values.shape), 0.001, 0.999)
        scores[vocabulary] = Scored(tags, values, np.full(len(tags), 0.5))
    return scores


def test_right_scores_measure_one(clips):
    found = measure(clips, scored(clips), Resampling([clip.group for clip in clips], 20))
    for vocabulary in (MTAT, MSD):
        assert found[f"genres, {vocabulary} tags"]["macro"].value == 1.0
        assert found[f"genre among the best 3 tags, {vocabulary}"]["macro"].value == 1.0
        assert found[f"female or male, {vocabulary}"]["others, female less male"].value == 1.0
        assert found["a cappella"][f"best tag is a voice, {vocabulary}"].value == 1.0
    for name in (MTAT, MSD, "both"):
        section = found[f"singing or instrumental, {name}"]
        assert section["ROC-AUC, largest margin"].value == 1.0
        assert section["recall, published thresholds"].value == 1.0
        assert section["false alarms, published thresholds"].value == 0.0
    assert found["instruments, single sounds"]["macro"].value == 1.0
    assert (found["genres, MSD tags"]["blues"].n_with, found["genres, MSD tags"]["blues"].n_without) == (10, 90)


def test_values_are_those_of_the_clips(clips):
    scores = scored(clips, noise=0.3)
    found = measure(clips, scores, Resampling([clip.group for clip in clips], 50))
    gtzan = [index for index, clip in enumerate(clips) if clip.source == "gtzan-curated"]
    blues = np.array([clips[index].labels.genre == "blues" for index in gtzan])
    value = found["genres, MSD tags"]["blues"]
    assert value.value == roc_auc(blues, scores[MSD].of(["blues"])[gtzan, 0])
    assert 0.5 < value.low < value.value < value.high < 1
    sung = np.array([clip.labels.singing is True for clip in clips])
    reached = (scores[MTAT].of(VOICES[MTAT]) >= 0.5).any(axis=1)
    section = found["singing or instrumental, MTAT"]
    assert section["recall, published thresholds"].value == pytest.approx(reached[sung].mean())


def test_resampling_keeps_groups_together():
    # One artist has all hits: without her the share is 0, so its interval is as wide as can be.
    groups = ["a"] * 50 + [f"b{i}" for i in range(2)]
    hits = np.array([True] * 50 + [False] * 2)
    value = Resampling(groups, 200).mean(hits, np.ones(52, bool))
    assert (value.low, value.high) == (0.0, 1.0)
    assert value.value == pytest.approx(50 / 52)


def test_recall_at_a_rate_of_false_alarms():
    present = np.array([True] * 4 + [False] * 20)
    scores = np.concatenate([[0.9, 0.8, 0.5, 0.1], [0.7], np.full(19, 0.2)])
    assert recall_at(present, scores) == 0.75
    assert recall_at(present, scores, false_alarms=0.0) == 0.5
    assert recall_at(present, scores, np.array([[1] * 24, [1, 1, 1, 1, 0] + [1] * 19])).tolist() == [0.75, 0.75]


def test_macro_is_resampled_together():
    resampling = Resampling([str(i) for i in range(40)], 100)
    present = np.arange(40) < 20
    scores = np.random.default_rng(0).uniform(size=40) + present * 0.3
    value = resampling.auc(present, scores)
    same = macro([value, value])
    assert (same.value, same.low, same.high) == (value.value, value.low, value.high)


def test_overlap_counts_shared_tags(clips):
    scores = scored(clips)
    same = overlap(clips, scores, {name: one.scores for name, one in scores.items()})
    assert same == {f"{name}, {kind}": 5.0 for name in NAMES for kind in ("music", "single sounds")}
    other = overlap(clips, scores, {name: -one.scores for name, one in scores.items()})
    assert set(other.values()) == {0.0}


def test_tables_hold_every_number(clips):
    resampling = Resampling([clip.group for clip in clips], 10)
    tables = {"ours": measure(clips, scored(clips), resampling)}
    shared = {"ours": {"MTAT, music": 4.25}}
    text = table(tables, shared)
    assert "| blues | 10, 90 | 1.000 (1.000-1.000) |" in text
    assert "ours shares with musicnn: 4.25 (MTAT, music)" in text
    assert len({len(line.split("|")) for line in text.splitlines() if line.startswith("|")}) == 1
    blues = to_json(tables, shared)["measures"]["ours"]["genres, MSD tags"]["blues"]
    assert blues == {"value": 1.0, "low": 1.0, "high": 1.0, "n_with": 10, "n_without": 90}


def test_goals_compare_with_musicnn(clips):
    resampling = Resampling([clip.group for clip in clips], 10)
    good, bad = measure(clips, scored(clips), resampling), measure(clips, scored(clips, noise=0.6), resampling)
    rows = goal_table("ours", good, bad, {"MTAT, music": 4.3, "MTAT, single sounds": 1.0}).splitlines()[2:]
    assert [row.split("|")[-2].strip() for row in rows if row.split("|")[-3].strip()] == ["yes"] * 10
    rows = goal_table("ours", bad, good, {"MTAT, music": 4.1}).splitlines()
    assert "| genres, MSD tags: macro |" in rows[2]
    assert rows[2].endswith("| musicnn -0.01 | no |")
    assert rows[-1] == "| best five tags shared, MTAT, music | 4.10 | | at least 4.2 | no |"


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5])
def test_threshold_above_a_share_of_scores(share):
    scores = np.random.default_rng(0).uniform(0, 0.7, 101)
    threshold = above(scores, share)
    assert (scores >= threshold).sum() == int(share * 101)
    # Equal scores are on the same side.
    assert (np.full(10, 0.3) >= above(np.full(10, 0.3), share)).sum() == 0
    assert above(scores, 1.0) == 0.0


def test_thresholds_keep_the_rate_of_false_alarms(clips):
    scores = scored(clips, noise=0.2)
    teacher = {name: one.scores for name, one in scored(clips, seed=1).items()}
    fit = np.arange(len(clips)) % 4 != 0
    found = fit_thresholds(scores, clips, teacher, fit)
    assert {name: tuple(rows) for name, rows in found.items()} == NAMES
    assert all(row.false_alarms <= 0.05 for rows in found.values() for row in rows.values())
    recall, alarms = voice_rates(found, scores, clips, fit)
    assert alarms <= 0.05
    assert recall > 0.9
    # Labels of people where there are enough, else the teacher's.
    assert found[MSD]["blues"].source == "labels"
    assert found[MSD]["blues"].n_with == 5
    assert found[MTAT]["weird"].source == "teacher"
    checked = check_thresholds(found, scores, clips, teacher, ~fit)
    assert 0 < np.mean([row["false_alarms"] for rows in checked.values() for row in rows.values()]) < 0.15
    assert voice_rates(found, scores, clips, ~fit)[0] > 0.8


def test_thresholds_need_instrumental_clips(clips):
    sung = [dataclasses.replace(one, labels=dataclasses.replace(one.labels, singing=None)) for one in clips]
    scores = scored(clips)
    teacher = {name: one.scores for name, one in scores.items()}
    with pytest.raises(Exception, match="expected instrumental clips"):
        fit_thresholds(scores, sung, teacher, np.ones(len(clips), bool))


def test_linear_head_keeps_artists_apart(clips):
    pytest.importorskip("sklearn")
    from real_transfer import folds, genre_clips, linear_head

    songs = [dataclasses.replace(one, group=f"artist {i // 20}-{i % 10}") for i, one in enumerate(genre_clips(clips))]
    for train, test in folds(songs):
        assert not {songs[i].group for i in train} & {songs[i].group for i in test}
    genres = sorted({one.labels.genre for one in songs})
    features = np.eye(10)[[genres.index(one.labels.genre) for one in songs]]
    features = features + 0.05 * np.random.default_rng(0).normal(size=features.shape)
    assert linear_head(features, songs, seeds=(0,)).mean() == 1.0
    shuffled = np.random.default_rng(1).permutation(features)
    assert linear_head(shuffled, songs, seeds=(0,)).mean() < 0.4


def test_fine_tuning_learns_two_pitches(tmp_path):
    pytest.importorskip("sklearn")
    from real_transfer import fine_tuned

    songs = []
    for number in range(30):
        genre = ("low", "high")[number % 2]
        song = clip(f"t{number}", Labels(genre), "gtzan-curated")
        np.save(tmp_path / song.waveform, tiny.tone(tiny.PITCHES_HZ[genre][number % 4 // 2], 1.0, number))
        songs.append(song)
    settings = tiny.merged(tiny.LEARNER, {"model": {"head": {"activation": "softmax"}}, "training": {"epochs": 4}})
    right = fine_tuned(None, songs, tmp_path, tmp_path / "runs", settings, only=(1,))
    assert np.isfinite(right).sum() == 6
    assert np.nanmean(right) == 1.0
