"""Measure a tagger on music that was not used for training, and write the tables of docs/model_card.md.

    export PYTHONPATH=tools
    python -m pretrain.measure --model compact --labels data/labels/manifest.jsonl --write docs/model_card.md
    python -m pretrain.measure --model compact --scores data/scores/manifest.jsonl \
        --score_labels data/score_labels/manifest.jsonl --write docs/model_card.md

Agreement with the teacher (--labels) is measured on clips of packages that were held out. The teacher's score of a clip
is the mean over its patches, and a clip has a tag if the score is above 0.3. The measures are ROC-AUC over tags that at
least 10 clips have, the mean overlap of the five best tags, and Spearman's rank correlation across clips, averaged over
all tags.

Localisation (--labels) is measured on halves of two such clips joined in the middle, for tags that the teacher gives
one half (above 0.5) and not the other (below 0.1). The measures are how often the token with the largest contribution
is in the right half (pointing), and the ROC-AUC of contributions over time.

On rendered scores (--scores), whose labels are true, ROC-AUC of the instruments is compared with that of the teacher
(--score_labels, from `teacher.py --split test`).

--write replaces the text between `<!-- measure NAME -->` and `<!-- end -->`, where NAME is the model's name followed by
"real", "where" or "scores". Without it, tables are printed.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from absl import app, flags
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.data.manifest import Manifest, label_matrix, read_manifest
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.evaluation.agreement import TOP, rank_correlations, top_overlap
from keras_tagger.evaluation.evaluate import score_clips
from keras_tagger.evaluation.report import TagTable, macro, score
from keras_tagger.metrics import roc_auc
from keras_tagger.tagger import Tagger, load
from pages import replace_marked

POSITIVE = 0.3
MIN_POSITIVES = 10
INSTRUMENTS = (
    *("piano", "harpsichord", "guitar", "violin", "cello", "strings"),
    *("harp", "choir", "flute", "sitar", "synth", "drums"),
)
# Clips are at least 10 s long.
START_SECONDS, HALF_SECONDS = 4.0, 5.12
PAIRS = 400

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("model", "compact", "A pretrained name, a run directory or a .keras file.")
    flags.DEFINE_string("prefix", "", 'Prefix of the model\'s tags in the labels, such as "msd/".')
    flags.DEFINE_string("labels", None, "Manifest of the teacher's labels.")
    flags.DEFINE_string("scores", None, "Manifest of the rendered scores.")
    flags.DEFINE_string("score_labels", None, "Manifest of the teacher's labels of the rendered scores.")
    flags.DEFINE_string("split", "test", "The split to measure on.")
    flags.DEFINE_string("write", None, "A Markdown file with marks, between which tables are written.")


def main(argv: Sequence[str]) -> None:
    """Measure, as the flags say."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    if not FLAGS.labels and not FLAGS.scores:
        raise app.UsageError("expected --labels or --scores. Received: neither")
    try:
        tagger = load(FLAGS.model)
        found = {}
        if FLAGS.labels:
            manifest = read_split(FLAGS.labels, FLAGS.split)
            found["real"] = real_table(tagger, manifest, FLAGS.prefix)
            found["where"] = where_table(tagger, manifest, FLAGS.prefix)
        if FLAGS.scores:
            heard = read_manifest(FLAGS.score_labels) if FLAGS.score_labels else None
            found["scores"] = scores_table(tagger, read_split(FLAGS.scores, FLAGS.split), heard)
        for name, text in found.items():
            print(f"{text}\n")
            if FLAGS.write:
                replace_marked(Path(FLAGS.write), f"measure {Path(FLAGS.model).name} {name}", text)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


def read_split(path: str, split: str) -> Manifest:
    """Read the clips of one split of a manifest; raise `ManifestError` if there are none."""
    clips = read_manifest(path).select(split)
    if not len(clips):
        raise ManifestError(f"{path}: expected clips of split {split!r}. Received: none")
    return clips


def real_table(tagger: Tagger, manifest: Manifest, prefix: str = "") -> str:
    """Compare the tagger with the teacher's scores of clips; return Markdown."""
    labels = label_matrix((clip.tags for clip in manifest.clips), [prefix + tag for tag in tagger.tags])
    scores = _scores(tagger, manifest)
    table = score(labels, scores, list(tagger.tags), POSITIVE)
    counted = np.flatnonzero(np.minimum(table["n_positive"], table["n_negative"]) >= MIN_POSITIVES)
    overlap = top_overlap(labels, scores)
    ranks = rank_correlations(labels, scores)
    lines = [
        f"{len(labels)} clips of about 30 s.",
        "",
        "| against the teacher | |",
        "|---|---|",
        f"| macro ROC-AUC, {len(counted)} tags with at least {MIN_POSITIVES} clips | "
        f"{macro(table, 'roc_auc', MIN_POSITIVES):.4f} |",
        f"| macro ROC-AUC, all {int(np.isfinite(table['roc_auc'].astype(float)).sum())} tags with a clip | "
        f"{macro(table, 'roc_auc'):.4f} |",
        f"| macro PR-AUC, the same {len(counted)} tags | {macro(table, 'pr_auc', MIN_POSITIVES):.4f} |",
        f"| overlap of the best {TOP} tags, mean | {overlap:.3f} of {TOP} |",
        f"| Spearman correlation across clips, mean over all {len(ranks)} tags | {np.nanmean(ranks):.4f} |",
        "",
        "| tag | ROC-AUC | PR-AUC | clips with it | Spearman |",
        "|---|---|---|---|---|",
    ]
    for row, rank in sorted(zip(table, ranks, strict=True), key=lambda pair: -pair[0]["n_positive"]):
        areas = (f"{row[name]:.3f}" if np.isfinite(row[name]) else "-" for name in ("roc_auc", "pr_auc"))
        lines.append(f"| {row['tag']} | {' | '.join(areas)} | {row['n_positive']} | {rank:.3f} |")
    return "\n".join(lines)


def where_table(tagger: Tagger, manifest: Manifest, prefix: str = "", n_pairs: int = PAIRS, seed: int = 0) -> str:
    """Measure localisation by contributions on joined halves; return Markdown.

    Raises:
        ManifestError: no clip has a tag (above 0.5) that a clip of another group has not (below 0.1).
    """
    names = [prefix + tag for tag in tagger.tags]
    labels = label_matrix((clip.tags for clip in manifest.clips), names)
    groups = np.array([str(clip.group) for clip in manifest.clips])
    if not any(((labels[i] > 0.5) & (labels[groups != groups[i]] < 0.1)).any() for i in range(len(labels))):
        raise ManifestError(
            f"expected a clip with a tag (above 0.5) that a clip of another group does not have (below 0.1). "
            f"Received: none among {len(labels)} clips and {len(names)} tags"
        )
    rng = np.random.default_rng(seed)
    rate = tagger.model.audio_config.sample_rate
    half = int(HALF_SECONDS * rate)
    chosen: list[tuple[int, int, int]] = []
    while len(chosen) < n_pairs:
        with_tag, without = rng.integers(0, len(labels), 2)
        fitting = np.flatnonzero((labels[with_tag] > 0.5) & (labels[without] < 0.1))
        if len(fitting) and manifest.clips[with_tag].group != manifest.clips[without].group:
            chosen.append((int(with_tag), int(without), int(rng.choice(fitting))))
    pointing, areas = [], []
    for number, (with_tag, without, tag) in enumerate(tqdm(chosen, desc="where", unit="pair")):
        first = number % 2 == 0
        order = (with_tag, without) if first else (without, with_tag)
        halves = [
            audio.load(manifest.clips[i].path, rate, START_SECONDS, START_SECONDS + HALF_SECONDS)[:half] for i in order
        ]
        heat = tagger.contributions((np.concatenate(halves), rate), [tagger.tags[tag]])
        inside = (heat.times < HALF_SECONDS) == first
        pointing.append(inside[int(np.argmax(heat.values[0]))])
        areas.append(roc_auc(inside, heat.values[0]))
    return "\n".join(
        [
            "| contributions on joined halves | |",
            "|---|---|",
            f"| pairs | {len(chosen)} |",
            f"| pointing | {np.mean(pointing):.3f} |",
            f"| ROC-AUC over time, mean | {np.mean(areas):.3f} |",
        ]
    )


def scores_table(tagger: Tagger, manifest: Manifest, heard: Manifest | None) -> str:
    """Measure instruments of rendered scores, also of the teacher if `heard` has its labels; return Markdown."""
    tags = [tag for tag in INSTRUMENTS if tag in tagger.tags]
    labels = label_matrix((clip.tags for clip in manifest.clips), tags)
    columns = [tagger.tags.index(tag) for tag in tags]
    tables = [("keras_tagger", score(labels, _scores(tagger, manifest)[:, columns], tags))]
    if heard is not None:
        by_path = {clip.track: clip.tags for clip in heard.clips}
        missing = [clip.path for clip in manifest.clips if clip.track not in by_path]
        if missing:
            raise ManifestError(f"expected the teacher's labels of every clip. Received: none of '{missing[0]}'")
        found = label_matrix((by_path[clip.track] for clip in manifest.clips), tags)
        tables.append(("teacher", score(labels, found, tags)))
    lines = [
        f"{len(labels)} clips.",
        "",
        f"| instrument | clips with it | without | {' | '.join(f'{name} ROC-AUC' for name, _ in tables)} |",
        f"|---|---|---|{'---|' * len(tables)}",
    ]
    for rows in zip(*(table for _, table in tables), strict=True):
        areas = " | ".join(f"{row['roc_auc']:.3f}" for row in rows)
        lines.append(f"| {rows[0]['tag']} | {rows[0]['n_positive']} | {rows[0]['n_negative']} | {areas} |")
    means: list[TagTable] = [table for _, table in tables]
    macros = " | ".join(f"{macro(table, 'roc_auc'):.4f}" for table in means)
    lines.append(f"| macro | | | {macros} |")
    return "\n".join(lines)


def _scores(tagger: Tagger, manifest: Manifest) -> np.ndarray:
    scores, failed = score_clips(tagger, manifest, list(manifest.clips))
    if failed:
        raise ManifestError(f"expected readable clips. Received: {failed[0]['reason']}")
    return np.stack([scores[index] for index in range(len(manifest))])


if __name__ == "__main__":
    define_flags()
    app.run(main)
