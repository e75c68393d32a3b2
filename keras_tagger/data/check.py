"""Check labelled audio before training: decode every file and count. Does not import TensorFlow."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from keras_tagger import audio
from keras_tagger.audio import AudioSource
from keras_tagger.data.manifest import SPLITS, Clip, Manifest, label_matrix
from keras_tagger.data.prepare import to_pcm
from keras_tagger.data.prepared import PreparedClip
from keras_tagger.errors import AudioWarning, KerasTaggerError, ManifestError
from keras_tagger.files import printable
from keras_tagger.progress import progress_bar
from keras_tagger.tables import text_table

# The smallest soft label that counts as the tag.
POSITIVE = 0.5
NO_SPLIT = "(none)"

# Kinds of `AudioWarning` and their titles in the table. Clips of the first two should not be trained on.
_PROBLEMS = {"damaged": "damaged, partly read", "silent": "silent"}
_NOTES = {"cancelled": "channels that cancel each other", "level": "samples far outside -1..1, or very quiet"}


@dataclasses.dataclass(frozen=True)
class ClipCheck:
    """What decoding a clip found.

    Attributes:
        clip: The clip.
        seconds: Its length; None if it cannot be decoded.
        digest: The SHA-256 of its 16-bit samples; "" if it cannot be decoded.
        reason: Why it cannot be decoded; "" if it can.
        warnings: What a listener must know about its audio.
    """

    clip: Clip
    seconds: float | None = None
    digest: str = ""
    reason: str = ""
    warnings: tuple[AudioWarning, ...] = ()


@dataclasses.dataclass(frozen=True)
class DataCheck:
    """The findings of `check`.

    Attributes:
        name: The name of the manifest.
        n_clips: The number of clips.
        n_tracks: The number of files.
        seconds: Lengths of the readable clips by split ("(none)" for clips without a split).
        tag_counts: By tag and split, the number of readable clips with a label of at least 0.5.
        min_clips: As given to `check`.
        rare_tags: The tags that fewer than `min_clips` clips have in all splits together.
        untagged: Ids of clips without tags.
        unreadable: `id`, `path` and `reason` of clips that cannot be decoded.
        warnings: `id`, `path`, `kind` and `message` for each `AudioWarning`, such as that of a silent clip.
        duplicates: Ids of clips with exactly the same samples.
        leaks: Those of `duplicates` that are in different splits.
    """

    name: str
    n_clips: int
    n_tracks: int
    seconds: Mapping[str, Sequence[float]]
    tag_counts: Mapping[str, Mapping[str, int]]
    min_clips: int
    rare_tags: tuple[str, ...]
    untagged: tuple[str, ...]
    unreadable: tuple[Mapping[str, str], ...]
    warnings: tuple[Mapping[str, str], ...]
    duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]

    @property
    def ok(self) -> bool:
        """Whether every clip can be decoded whole, none is silent, and no audio is in two splits."""
        problems = [entry for entry in self.warnings if entry["kind"] in _PROBLEMS]
        return not self.unreadable and not problems and not self.leaks

    def to_dict(self) -> dict[str, Any]:
        """Return all findings as JSON types; lengths as hours, and minimum, median and maximum in seconds."""
        return {
            "name": self.name,
            "ok": self.ok,
            "clips": self.n_clips,
            "tracks": self.n_tracks,
            "splits": {split: _durations(seconds) for split, seconds in self.seconds.items()},
            "tags": {tag: dict(counts) for tag, counts in self.tag_counts.items()},
            "rare_tags": list(self.rare_tags),
            "untagged": list(self.untagged),
            "unreadable": [dict(entry) for entry in self.unreadable],
            "warnings": [dict(entry) for entry in self.warnings],
            "duplicates": [list(ids) for ids in self.duplicates],
            "leaks": [list(ids) for ids in self.leaks],
        }

    def table(self) -> str:
        """Return the findings as text for a terminal."""
        splits = list(self.seconds)
        rows = [["split", "clips", "hours", "shortest s", "median s", "longest s"]]
        for split, seconds in self.seconds.items():
            of = _durations(seconds)
            lengths = (
                [f"{of[key]:.1f}" for key in ("min_seconds", "median_seconds", "max_seconds")] if seconds else ["-"] * 3
            )
            rows.append([split, str(of["clips"]), f"{of['hours']:.2f}", *lengths])
        tag_rows = [["tag", *splits, "all"]]
        for tag, counts in self.tag_counts.items():
            tag_rows.append([tag, *(str(counts[split]) for split in splits), str(sum(counts.values()))])
        parts = [
            f"{printable(self.name) or 'manifest'}: {self.n_clips} clips of {self.n_tracks} tracks, "
            f"{len(self.tag_counts)} tags",
            text_table(rows),
            text_table(tag_rows) if self.tag_counts else "",
            _listing("unreadable", [f"{entry['id']}: {entry['reason']}" for entry in self.unreadable]),
            *(
                _listing(
                    title, [f"{entry['id']}: {entry['message']}" for entry in self.warnings if entry["kind"] == kind]
                )
                for kind, title in (_PROBLEMS | _NOTES).items()
            ),
            _listing(f"tags with fewer than {self.min_clips} clips", self.rare_tags),
            _listing("clips without tags", self.untagged),
            _listing("same audio in different splits", [" = ".join(ids) for ids in self.leaks]),
            _listing(
                "same audio in one split",
                [" = ".join(ids) for ids in self.duplicates if ids not in self.leaks],
            ),
        ]
        return "\n\n".join(part for part in parts if part)


def check(
    manifest: Manifest,
    workers: int = 0,
    min_clips: int = 10,
    sample_rate: int = 16000,
    sources: Mapping[str, AudioSource] | None = None,
    on_clip: Callable[[ClipCheck], None] | None = None,
) -> DataCheck:
    """Decode every clip and report lengths, tag counts, unreadable files and duplicates.

    Clips are duplicates if their 16-bit samples are equal. A clip without audio between its start and end is
    unreadable. A bad file is reported, not raised.

    Args:
        manifest: The clips to check. If it has no tags, clips without tags are not reported.
        workers: The number of threads; 0 for one per CPU.
        min_clips: Tags that fewer clips have are listed as rare.
        sample_rate: The rate to decode at, in Hz.
        sources: The audio of clips whose path is not a file, by path.
        on_clip: Called with what was found for each clip, in order, as soon as it is known.

    Example:
        >>> print(check(read_manifest("music.csv")).table())
    """
    labels = manifest.labels() >= POSITIVE
    present = {clip.split or NO_SPLIT for clip in manifest.clips}
    splits = [split for split in (*SPLITS, NO_SPLIT) if split in present]
    seconds: dict[str, list[float]] = {split: [] for split in splits}
    tag_counts = {tag: dict.fromkeys(splits, 0) for tag in manifest.tags}
    unreadable = []
    warnings = []
    same: dict[str, list[Clip]] = {}
    pool = ThreadPoolExecutor(max_workers=workers or os.cpu_count() or 1)
    try:
        decoded = pool.map(lambda clip: _decode(clip, sample_rate, (sources or {}).get(clip.path)), manifest.clips)
        bar = progress_bar(decoded, total=len(manifest), desc="check", unit="clip")
        for positive, found in zip(labels, bar, strict=True):
            clip = found.clip
            if on_clip is not None:
                on_clip(found)
            where = {"id": clip.clip_id, "path": clip.path}
            warnings += [{**where, "kind": warning.kind, "message": str(warning)} for warning in found.warnings]
            if found.seconds is None:
                unreadable.append({**where, "reason": found.reason})
                continue
            split = clip.split or NO_SPLIT
            seconds[split].append(found.seconds)
            same.setdefault(found.digest, []).append(clip)
            for tag in np.flatnonzero(positive):
                tag_counts[manifest.tags[tag]][split] += 1
    finally:
        pool.shutdown(cancel_futures=True)

    repeated = [clips for clips in same.values() if len(clips) > 1]
    return DataCheck(
        name=manifest.name,
        n_clips=len(manifest),
        n_tracks=len({clip.track for clip in manifest.clips}),
        seconds=seconds,
        tag_counts=tag_counts,
        min_clips=min_clips,
        rare_tags=tuple(tag for tag, counts in tag_counts.items() if sum(counts.values()) < min_clips),
        untagged=tuple(clip.clip_id for clip in manifest.clips if manifest.tags and not any(clip.tags.values())),
        unreadable=tuple(unreadable),
        warnings=tuple(warnings),
        duplicates=tuple(_ids(clips) for clips in repeated),
        leaks=tuple(_ids(clips) for clips in repeated if len({clip.split for clip in clips}) > 1),
    )


def check_single_label(clips: Sequence[Clip | PreparedClip], tags: Sequence[str]) -> None:
    """Check that every clip has exactly one tag, or soft labels that sum to 1.

    Raises:
        ManifestError: If a clip does not; the message names the first one.
    """
    labels = label_matrix((clip.tags for clip in clips), tags)
    # Unknown labels are NaN, which is not close to 1.
    wrong = np.flatnonzero(~np.isclose(labels.sum(axis=1), 1.0, atol=1e-3))
    if len(wrong):
        clip = clips[int(wrong[0])]
        found = ", ".join(f"{tag}:{clip.tags[tag]:g}" for tag in tags if clip.tags.get(tag, 0.0) != 0.0) or "none"
        raise ManifestError(
            "model.head.activation: expected exactly one tag per clip for softmax (sigmoid allows any number). "
            f"Received: {found} of '{clip.path}', and {len(wrong) - 1} more clips like it."
        )


def _ids(clips: Sequence[Clip]) -> tuple[str, ...]:
    return tuple(clip.clip_id for clip in clips)


def _decode(clip: Clip, sample_rate: int, source: AudioSource | None) -> ClipCheck:
    digest = hashlib.sha256()
    samples = 0
    warnings: list[AudioWarning] = []
    try:
        for block in audio.blocks(
            clip.path if source is None else source,
            sample_rate=sample_rate,
            block_seconds=30.0,
            start_seconds=clip.start_seconds,
            end_seconds=clip.end_seconds,
            warnings=warnings,
        ):
            digest.update(to_pcm(block).tobytes())
            samples += len(block)
    except KerasTaggerError as error:
        return ClipCheck(clip, reason=str(error), warnings=tuple(warnings))
    return ClipCheck(clip, samples / sample_rate, digest.hexdigest(), warnings=tuple(warnings))


def _durations(seconds: Sequence[float]) -> dict[str, float]:
    if not seconds:
        return {"clips": 0, "hours": 0.0, "min_seconds": 0.0, "median_seconds": 0.0, "max_seconds": 0.0}
    return {
        "clips": len(seconds),
        "hours": sum(seconds) / 3600,
        "min_seconds": min(seconds),
        "median_seconds": float(np.median(seconds)),
        "max_seconds": max(seconds),
    }


def _listing(title: str, lines: Sequence[str]) -> str:
    return f"{title}: {len(lines)}\n" + "\n".join(f"  {printable(line)}" for line in lines) if lines else ""
