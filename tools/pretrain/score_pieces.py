"""Convert pieces of music21's corpus to plain lists of notes, for `scores.py`.

music21 (`pip install music21`) parses slowly, so every piece is parsed once and stored as JSON:
{"piece", "work", "parts": [[[onset, duration, pitch], ...], ...]}, in quarter notes and MIDI pitches. A piece that
cannot be parsed within the time limit is stored without parts, so that it is not tried again.

Movements and versions of a work have the same "work", which decides the split. Some of music21's encodings are for
non-commercial use; the lists of notes stay in the work folder.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import multiprocessing
import re
import signal
from pathlib import Path
from typing import Any

from absl import logging
from tqdm import tqdm

from keras_tagger.errors import ManifestError, ManifestNotFoundError
from keras_tagger.files import write_json

SPLITS = ("train", "valid", "test")

# The number of pieces to take from a collection; the others are small and taken whole.
QUOTAS = {
    **{"bach": 95, "palestrina": 50, "monteverdi": 40, "trecento": 35, "ryansMammoth": 45},
    **{"oneills1850": 35, "airdsAirs": 25, "essenFolksong": 40},
}
LEFT_OUT = ("demos", "theoryExercises", "nottingham-dataset")
SUFFIXES = (".mxl", ".xml", ".musicxml", ".krn", ".abc")
MAX_BYTES = 400_000
MAX_QUARTERS = 400
PARSE_SECONDS = 60

_MUSIC21 = "expected music21, which has the scores: pip install music21. Received: no such package"


def find_corpus() -> Path:
    """Find the folder of music21's corpus without importing music21.

    Raises:
        ManifestNotFoundError: music21 is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or spec.origin is None:
        raise ManifestNotFoundError(_MUSIC21)
    return Path(spec.origin).parent / "corpus"


def work_of(piece: str) -> str:
    """Return the work of a piece; `piece` is a path in the corpus, with "#n" for the n-th tune of a file.

    A folder below the composer's is one work, and so is a file of several sections by Josquin; madrigals are kept
    together by book, masses by number, dance tunes by name, cantatas by BWV.
    """
    composer, _, rest = piece.partition("/")
    if "#" in rest and composer != "josquin":
        return f"{composer}/{rest}"
    if "/" in rest:
        return f"{composer}/{rest.split('/')[0]}"
    stem = re.sub(r"\.(mxl|xml|musicxml|krn|abc)(#.*)?$", "", rest)
    if composer == "palestrina":
        return f"{composer}/mass {re.findall(r'[0-9]+', stem)[-1]}" if re.search("[0-9]", stem) else piece
    if composer == "monteverdi":
        return f"{composer}/{'.'.join(stem.split('.')[:2])}"
    if composer == "trecento":
        return f"{composer}/{re.sub(r'_bak$', '', stem)}"
    if composer == "bach":
        return f"{composer}/{re.split(r'[.-]', stem)[0]}"
    return f"{composer}/{re.sub(r'[0-9]+$', '', stem) or stem}"


def list_pieces(corpus: Path) -> list[str]:
    """List the pieces to use, always the same: paths in the corpus, with "#n" for the n-th tune of a file."""
    chosen = []
    for folder in sorted(path for path in corpus.iterdir() if path.is_dir()):
        if folder.name in LEFT_OUT or folder.name.startswith("_"):
            continue
        pieces = []
        for path in sorted(folder.rglob("*")):
            if path.suffix not in SUFFIXES or "choraleAnalyses" in path.parts or path.stat().st_size == 0:
                continue
            # A piece in two formats counts once.
            if path.suffix in (".xml", ".krn") and path.with_suffix(".mxl").exists():
                continue
            name = path.relative_to(corpus).as_posix()
            tunes = len(tunes_of(path)) if path.suffix == ".abc" else 1
            if tunes > 1:
                pieces += [f"{name}#{i}" for i in range(tunes)]
            elif path.stat().st_size <= MAX_BYTES:
                pieces.append(name)
        pieces.sort(key=lambda piece: hashlib.sha256(piece.encode()).hexdigest())
        chosen += pieces[: QUOTAS.get(folder.name, 20)]
    return chosen


def tunes_of(path: Path) -> list[str]:
    """Split an ABC file into tunes, each of which begins with a line "X:"."""
    text = path.read_text("utf-8", errors="replace")
    return ["X:" + tune for tune in re.split(r"^X:", text, flags=re.MULTILINE)[1:]]


def load_pieces(work_dir: Path, jobs: int) -> list[dict[str, Any]]:
    """Load all pieces with notes; `jobs` processes parse those that are not in `work_dir`.

    Raises:
        ManifestNotFoundError: music21 is not installed.
        ManifestError: no piece could be parsed.
    """
    corpus = find_corpus()
    names = list_pieces(corpus)
    tasks = [(str(corpus), name, str(_cache_path(work_dir, name))) for name in names]
    todo = [task for task in tasks if not Path(task[2]).exists()]
    if todo:
        with multiprocessing.get_context("spawn").Pool(jobs) as pool:
            for _ in tqdm(pool.imap_unordered(_parse_and_keep, todo), total=len(todo), desc="parse", unit="piece"):
                pass
    pieces = [json.loads(Path(task[2]).read_text("utf-8")) for task in tasks]
    usable = [piece for piece in pieces if piece["parts"]]
    logging.info("%d of %d pieces can be used.", len(usable), len(pieces))
    if not usable:
        raise ManifestError(
            f"expected scores that music21 can parse in '{corpus}'. Received: {len(pieces)} that it cannot parse"
        )
    return usable


def _cache_path(work_dir: Path, name: str) -> Path:
    return work_dir / "pieces" / (re.sub(r"[^A-Za-z0-9.#-]+", "_", name) + ".json")


def _parse_and_keep(task: tuple[str, str, str]) -> None:
    corpus, name, target = task
    piece: dict[str, Any] = {"piece": name, "work": work_of(name), "parts": []}

    def too_long(*_: object) -> None:
        raise TimeoutError(f"longer than {PARSE_SECONDS} s")

    signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PARSE_SECONDS)
    try:
        piece["parts"] = parse(Path(corpus), name)
    except Exception as error:  # music21 raises what its parsers happen to; the piece is then left out.
        piece["problem"] = f"{type(error).__name__}: {error}"[:200]
    finally:
        signal.alarm(0)
    write_json(target, piece)


def parse(corpus: Path, name: str) -> list[list[list[float]]]:
    """Parse a piece into parts, top first: sorted [onset, duration, pitch] in quarter notes from its first note.

    Ties are joined, grace notes and chord symbols left out; what begins after `MAX_QUARTERS` is left out.
    """
    import music21

    path, _, tune = name.partition("#")
    if tune:
        score = music21.converter.parse(tunes_of(corpus / path)[int(tune)], format="abc", forceSource=True)
    else:
        score = music21.converter.parse(corpus / path, forceSource=True, storePickle=False)
    if isinstance(score, music21.stream.Opus):
        score = score.scores[0]
    parts = [notes for part in (score.parts or [score]) if (notes := _notes_of(part))]
    start = min((notes[0][0] for notes in parts), default=0.0)
    return [[[round(note[0] - start, 4), round(note[1], 4), note[2]] for note in notes] for notes in parts]


def _notes_of(part: Any) -> list[list[float]]:
    notes: list[list[float]] = []
    open_ties: dict[int, list[float]] = {}
    for element in part.flatten().notes:
        onset, duration = float(element.offset), float(element.duration.quarterLength)
        if "Harmony" in element.classes or duration <= 0:
            continue
        if onset > MAX_QUARTERS:
            break
        for single in element.notes if "Chord" in element.classes else [element]:
            if not hasattr(single, "pitch"):
                continue
            pitch = int(single.pitch.midi)
            tie = (single.tie or element.tie).type if (single.tie or element.tie) else None
            before = open_ties.pop(pitch, None)
            if tie in ("continue", "stop") and before and abs(before[0] + before[1] - onset) < 1e-3:
                before[1] += duration
                current = before
            else:
                current = [onset, duration, pitch]
                notes.append(current)
            if tie in ("start", "continue"):
                open_ties[pitch] = current
    return sorted(notes)


def split_of(work: str) -> str:
    """Return the split of a work, which a hash of its name decides."""
    place = int(hashlib.sha256(f"scores:{work}".encode()).hexdigest()[:8], 16) / 2**32
    return "test" if place < 0.25 else "valid" if place < 0.37 else "train"
