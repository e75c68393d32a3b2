"""Build a music corpus from Debian packages: freely licensed music together with its licences.

    python tools/corpus.py --out_dir data/albums --collection albums
    python tools/corpus.py --out_dir data/mine techno=warzone2100-music drums=planetblupi-music-ogg,zaz-data
    python tools/corpus.py --out_dir data/all naev-data freecol

`TAG=PACKAGE[,PACKAGE...]` puts the tracks of packages below OUT_DIR/TAG/PACKAGE; a PACKAGE alone is its own tag, below
OUT_DIR/PACKAGE. OUT_DIR then has a folder per tag, and OUT_DIR/manifest.csv is a manifest with the columns path, tags,
group, package, track, licence and seconds. Copyright files are in OUT_DIR/licences. Licences are found in them by
pattern; read the files themselves before redistributing anything. Finished packages are not downloaded again.

Needs `apt-get` (or --debs) and `dpkg-deb`.
"""

from __future__ import annotations

import csv
import fnmatch
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging
from tqdm import tqdm

from keras_tagger import audio
from keras_tagger.errors import KerasTaggerError
from keras_tagger.files import replacing, write_json

COLLECTIONS: dict[str, dict[str, list[str]]] = {
    "albums": {
        "techno": ["warzone2100-music"],
        "orchestral": ["wesnoth-1.16-music"],
        "metal": ["marsshooter-data", "fretsonfire-songs-sectoid"],
        "electronic": ["singularity-music"],
        "adventure": ["drascula-music"],
    },
    # About 30 hours. Each package is its own tag, so that splits can be made of whole packages.
    "pretraining": {
        package: [package]
        for package in (
            *("warzone2100-music", "ufoai-music", "planetblupi-music-ogg", "wesnoth-1.16-music", "naev-data"),
            *("supertux-data", "hedgewars-data", "nexuiz-music", "blobwars-data", "supertuxkart-data"),
            *("colobot-common-sounds", "singularity-music", "marsshooter-data", "drascula-music"),
            *("unknown-horizons", "megaglest-data", "trackballs-data", "pushover-data", "warmux-data"),
            *("fretsonfire-songs-sectoid", "openclonk-data", "zaz-data", "freecol"),
        )
    },
    # About 13 hours, none of it in `pretraining`. Found by pattern in the copyright files: GPL, CC BY, CC BY-SA, CC0,
    # public domain and BSD. 0ad-data is live folk and world music, fretsonfire-songs-muldjord sung metal.
    "more": {
        package: [package]
        for package in (
            *("0ad-data", "widelands-data", "berusky2-data", "freedroidrpg-data", "flare-game", "redeclipse-data"),
            *("starfighter-data", "hyperrogue-music", "fillets-ng-data", "enigma-data", "ardentryst", "btanks-data"),
            *("asc-music", "fretsonfire-songs-muldjord", "frozen-bubble-data", "xmoto-data", "freeorion-data"),
            *("noiz2sa-data", "lincity-ng-data", "extremetuxracer-data", "pathological", "scorched3d-data"),
            *("torcs-data", "tuxmath-data", "mu-cade-data", "parsec47-data", "torus-trooper-data", "gunroar-data"),
            *("tumiki-fighters-data", "titanion-data", "rrootage-data", "endless-sky-data", "glob2-data"),
            "openarena-data",
        )
    },
}

FLAGS = flags.FLAGS

COLUMNS = ("path", "tags", "group", "package", "track", "licence", "seconds")

# The first bytes of audio formats that games use. Only files that begin with one are opened as audio.
_MAGIC = re.compile(rb"OggS|fLaC|ID3|RIFF....WAVE|FORM....AIF|\xff[\xe2\xe3\xf2\xf3\xfa\xfb]", re.DOTALL)
_ARCHIVES = (".pk3", ".pk4", ".zip")
_EFFECTS = re.compile(r"(^|/)(sfx|fx|effects?|sound_?effects?|speech|announcer)/", re.IGNORECASE)
# Frets on Fire has files of single instruments beside the mix, song.ogg.
_STEMS = ("guitar", "rhythm", "bass", "drums")
# Versions of a piece form a group, so that they are in the same split.
_VERSION = re.compile(
    r"([-_ ](old|new|enhanced|epic|short|long|loop|intro|outro|alt|reprise|final|remix))+$", re.IGNORECASE
)
_LICENCE_TEXTS = (
    ("GPL", r"General\s+Public\s+License|\bGPL\b"),
    ("CC-BY-SA", r"Attribution-Share\s?Alike|CC[- ]BY[- ]SA"),
    ("CC-BY", r"Creative\s+Commons\s+Attribution(?!-)|CC[- ]BY(?![- ])"),
    ("Expat", r"Permission\s+is\s+hereby\s+granted,\s+free\s+of\s+charge"),
    ("public-domain", r"public\s+domain"),
)


class CorpusError(Exception):
    """A problem that the user can solve."""


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("out_dir", None, "Folder of the corpus.", required=True)
    flags.DEFINE_enum("collection", None, sorted(COLLECTIONS), "A named set of packages and tags.")
    flags.DEFINE_string("debs", None, "Take NAME_*.deb from this folder instead of downloading.")
    flags.DEFINE_float("min_seconds", 30.0, "Leave out shorter files, such as effects and jingles.", lower_bound=0.0)


def main(argv: Sequence[str]) -> None:
    """Build the corpus and print its table."""
    out_dir = Path(FLAGS.out_dir)
    try:
        tags_of = packages_of(argv[1:], FLAGS.collection)
        out_dir.mkdir(parents=True, exist_ok=True)
        for package, tags in tqdm(tags_of.items(), desc="corpus", unit="package"):
            add_package(out_dir, package, tags, FLAGS.min_seconds, FLAGS.debs)
        states = [json.loads(path.read_text("utf-8")) for path in sorted((out_dir / ".packages").glob("*.json"))]
        _write_manifest(out_dir, states)
        print(_table(states))
    except (CorpusError, KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")


def packages_of(specs: Sequence[str], collection: str | None) -> dict[str, list[str]]:
    """Return the tags of every package, given `TAG=PACKAGE,...`, names of packages and a collection."""
    chosen = COLLECTIONS[collection] if collection else {}
    pairs = [(tag, package) for tag, packages in chosen.items() for package in packages]
    for spec in specs:
        tag, equals, names = spec.rpartition("=")
        pairs += [(tag if equals else name, name) for name in names.split(",")]
    tags_of: dict[str, list[str]] = {}
    for tag, package in pairs:
        if not re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", package):
            raise CorpusError(f"expected TAG=PACKAGE[,PACKAGE...] or PACKAGE. Received: the package {package!r}")
        if not tag or tag.startswith(".") or re.search(r"[/\\;,:]", tag) or tag == "licences":
            raise CorpusError(f"expected a tag that can name a folder and stand in a manifest. Received: {tag!r}")
        tags_of.setdefault(package, [])
        if tag not in tags_of[package]:
            tags_of[package].append(tag)
    if not tags_of:
        raise CorpusError(f"expected packages, or --collection with one of {', '.join(COLLECTIONS)}. Received: none")
    return tags_of


def add_package(out_dir: Path, package: str, tags: Sequence[str], min_seconds: float, debs: str | None) -> None:
    """Download and unpack one package and place its tracks, unless this is already done.

    The state file is written last and contains the rows of the manifest.

    Raises:
        CorpusError: If the package cannot be downloaded or unpacked, or has no music.
    """
    state_path = out_dir / ".packages" / f"{package}.json"
    state = json.loads(state_path.read_text("utf-8")) if state_path.exists() else None
    settings = {"package": package, "tags": list(tags), "min_seconds": min_seconds}
    if state and state["settings"] == settings and all((out_dir / path).exists() for path in state["files"]):
        logging.info("%s: %d tracks exist already.", package, len(state["rows"]))
        return
    for path in state["files"] if state else ():
        (out_dir / path).unlink(missing_ok=True)
    deb = _find_deb(package, Path(debs)) if debs else _download(package, out_dir / ".debs")
    tree = out_dir / ".unpacked" / package
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir(parents=True)
    try:
        _run(["dpkg-deb", "-x", str(deb), str(tree)], f"{deb.name} cannot be unpacked")
        _unzip_archives(tree)
        licence_text = _save_licence(tree, package, out_dir)
        tracks = list(_tracks(tree, package, min_seconds))
        if not tracks:
            raise CorpusError(f"expected audio of {min_seconds:g} s or longer. Received: {package}, which has none")
        rows, files = _place(out_dir, tree, package, tags, tracks, licence_text)
    finally:
        shutil.rmtree(tree.parent, ignore_errors=True)
    write_json(state_path, {"settings": settings, "rows": rows, "files": files}, indent=1)
    logging.info("%s: %d tracks.", package, len(rows))


def _find_deb(package: str, folder: Path) -> Path:
    found = sorted(folder.glob(f"{package}_*.deb"))
    if not found:
        raise CorpusError(f"expected {package}_*.deb in the folder of --debs. Received: '{folder}', which has none")
    return found[-1]


def _download(package: str, folder: Path) -> Path:
    """Download a package unless it exists. apt-get writes to a folder of its own, so no partial file remains."""
    folder.mkdir(parents=True, exist_ok=True)
    if not any(folder.glob(f"{package}_*.deb")):
        partial = folder / f"{package}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        logging.info("Downloading %s.", package)
        try:
            problem = f"{package} cannot be downloaded (try `apt-get update` first)"
            _run(["apt-get", "download", package], problem, partial)
            for deb in partial.glob("*.deb"):
                os.replace(deb, folder / deb.name)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return _find_deb(package, folder)


def _run(command: Sequence[str], problem: str, folder: Path | None = None) -> None:
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True)
    except FileNotFoundError:
        raise CorpusError(f"{problem}: expected the program {command[0]}, which is not installed") from None
    except subprocess.CalledProcessError as error:
        lines = [line for line in error.stderr.strip().splitlines() if not line.startswith("W:")]
        raise CorpusError(f"{problem}: {lines[-1] if lines else f'status {error.returncode}'}") from None


def _unzip_archives(tree: Path) -> None:
    """Replace archives by folders of the same name with the files that may be audio (a pk3 is a zip)."""
    for path in [path for path in sorted(tree.rglob("*")) if path.suffix.lower() in _ARCHIVES and path.is_file()]:
        if not zipfile.is_zipfile(path):
            continue
        folder = path.with_name(path.name + ".unzipped")
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                if not member.is_dir():
                    with archive.open(member) as file:
                        wanted = _MAGIC.match(file.read(12))
                    if wanted:
                        archive.extract(member, folder)
        path.unlink()
        if folder.exists():
            folder.rename(path)


def _save_licence(tree: Path, package: str, out_dir: Path) -> str:
    path = tree / "usr/share/doc" / package / "copyright"
    text = path.read_text("utf-8", errors="replace") if path.is_file() else "The package has no copyright file.\n"
    (out_dir / "licences").mkdir(exist_ok=True)
    (out_dir / "licences" / f"{package}.txt").write_text(text, "utf-8")
    return text


def _tracks(tree: Path, package: str, min_seconds: float) -> Iterator[tuple[Path, float]]:
    """Find music and its length in an unpacked tree, without duplicates, effects, stems and short files."""
    seen: set[bytes] = set()
    files = sorted(path for path in tree.rglob("*") if path.is_file() and not path.is_symlink())
    for path in tqdm(files, desc=package, unit="file", leave=False):
        if _EFFECTS.search(path.relative_to(tree).as_posix()) or _is_stem(path):
            continue
        with open(path, "rb") as file:
            if not _MAGIC.match(file.read(12)):
                continue
        try:
            seconds = audio.info(path).seconds
            if seconds is None:
                seconds = sum(len(block) for block in audio.blocks(path, 16000)) / 16000
        except KerasTaggerError as error:
            logging.warning("%s: left out: %s", package, error)
            continue
        content = hashlib.sha256(path.read_bytes()).digest()
        if seconds >= min_seconds and content not in seen:
            seen.add(content)
            yield path, seconds


def _is_stem(path: Path) -> bool:
    return path.stem.lower() in _STEMS and any(path.parent.glob("song.*"))


def _place(
    out_dir: Path,
    tree: Path,
    package: str,
    tags: Sequence[str],
    tracks: Sequence[tuple[Path, float]],
    licence_text: str,
) -> tuple[list[dict[str, Any]], list[str]]:
    """Link the tracks below every tag; return their rows of the manifest and all new files."""
    base = Path(os.path.commonpath([path.parent for path, _ in tracks]))
    same_name = Counter(path.stem for path, _ in tracks)
    rows, files = [], []
    for path, seconds in tracks:
        name = path.relative_to(base)
        places = [Path(tag, name) if tag == package else Path(tag, package, name) for tag in tags]
        for place in places:
            _link(path, out_dir / place)
        # A name such as song.ogg, in a folder for each piece, does not distinguish pieces.
        piece = name.with_suffix("").as_posix() if same_name[path.stem] > 1 else piece_of(path.stem)
        files += [place.as_posix() for place in places]
        rows.append(
            {
                "path": places[0].as_posix(),
                "tags": ";".join(tags),
                "group": f"{package}/{piece}",
                "package": package,
                "track": name.with_suffix("").as_posix(),
                "licence": licence_of(licence_text, path.relative_to(tree).as_posix()),
                "seconds": round(seconds, 3),
            }
        )
    return rows, files


def piece_of(track: str) -> str:
    """Remove words for a version from the name of a track.

    Example:
        >>> piece_of("battle-epic-loop")
        'battle'
    """
    return _VERSION.sub("", track)


def _link(source: Path, target: Path) -> None:
    with replacing(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copyfile(source, temporary)
    target.chmod(0o644)


def licence_of(copyright_text: str, path: str) -> str:
    """Return the short name of a file's licence in a Debian copyright file, by the pattern that fits its path best.

    Patterns refer to the source package and `path` to the installed file, so leading folders of a pattern may be
    missing. A text that is not machine-readable is searched for well-known licences ("see licences: GPL, Expat").
    """
    best = (0, "")
    for paragraph in re.split(r"\n\s*\n", copyright_text):
        fields = dict(re.findall(r"^(Files|License):[ \t]*(.*(?:\n[ \t].*)*)", paragraph, re.MULTILINE))
        licence = fields.get("License", "").split("\n")[0].strip()
        if "Files" in fields and licence:
            score = max(_fit(pattern, path) for pattern in fields["Files"].split())
            if score and score >= best[0]:  # in this format, the last paragraph that fits counts
                best = (score, licence)
    if best[1]:
        return best[1]
    names = [name for name, text in _LICENCE_TEXTS if re.search(text, copyright_text)]
    return f"see licences: {', '.join(names)}" if names else "see licences"


def _fit(pattern: str, path: str) -> int:
    """Count the parts of a pattern that fit the end of a path: 0 if none, 1 for `*`."""
    parts = pattern.removeprefix("./").split("/")
    if parts == ["*"]:
        return 1
    for first in range(len(parts)):
        rest = parts[first:]
        if set(rest) != {"*"} and fnmatch.fnmatchcase(f"/{path}", "*/" + "/".join(rest)):
            return 1 + len(rest)
    return 0


def _write_manifest(out_dir: Path, states: Sequence[dict[str, Any]]) -> None:
    with replacing(out_dir / "manifest.csv") as temporary, open(temporary, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        for state in states:
            writer.writerows(state["rows"])


def _table(states: Sequence[dict[str, Any]]) -> str:
    lines = [f"{'package':28} {'tags':16} {'tracks':>6} {'minutes':>8}  licences"]
    for state in states:
        rows = state["rows"]
        licences = ", ".join(f"{name} ({n})" for name, n in Counter(row["licence"] for row in rows).most_common())
        lines.append(
            f"{state['settings']['package']:28} {';'.join(state['settings']['tags']):16} {len(rows):6} "
            f"{sum(row['seconds'] for row in rows) / 60:8.1f}  {licences}"
        )
    every = [row for state in states for row in state["rows"]]
    lines.append(f"{'all':45} {len(every):6} {sum(row['seconds'] for row in every) / 60:8.1f}")
    return "\n".join(lines)


if __name__ == "__main__":
    define_flags()
    app.run(main)
