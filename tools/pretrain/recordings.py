"""Copy freely licensed recordings from git repositories into a corpus for `clips.py`.

    python -m pretrain.recordings --clones clones --kind voices --out data/voices
    python -m pretrain.clips --corpus data/voices --out data/voice_clips

`--clones` is a folder with a clone, bare or not, of each repository of `REPOSITORIES` as OWNER+NAME; a missing one is
reported. Only files whose licence permits changed copies are listed, each with its licence: it was read in the file
that `licence_in` names. OUT gets the files as REPOSITORY/NAME and manifest.csv, with the columns of `tools/corpus.py`;
`tags` says what is known: the package, "singing", "speech" or "instrumental", and who is heard.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from keras_tagger import audio
from keras_tagger.errors import KerasTaggerError, ManifestError
from keras_tagger.files import replacing, write_csv

COLUMNS = ("path", "tags", "group", "package", "track", "licence", "seconds")


@dataclasses.dataclass(frozen=True)
class Recordings:
    """Files of a repository with the same licence and contents.

    Attributes:
        repository: OWNER/NAME.
        pattern: A regular expression that the whole path of a file must match.
        licence: The short name of the licence.
        licence_in: The file of the repository, or the page, that states the licence.
        tags: What is heard.
        kind: "voices" or "notes".
        deleted: Whether the files are only in the history, not in the newest commit.
    """

    repository: str
    pattern: str
    licence: str
    licence_in: str
    tags: tuple[str, ...]
    kind: str = "voices"
    deleted: bool = False


SINGING, SPEECH, INSTRUMENTAL = ("singing",), ("speech",), ("instrumental",)
MAN, WOMAN = ("male voice",), ("female voice",)

REPOSITORIES = (
    Recordings(
        "UltraStar-Deluxe/songs",
        r"Creative Commons/Joshua Morin - On the run/audio\.ogg",
        "CC-BY-SA-2.5",
        "license.txt beside the song",
        (*SINGING, *MAN, "rock"),
    ),
    Recordings(
        "UltraStar-Deluxe/Play",
        r".*/HoliznaCC0 - To Be an Animal - Excerpt\.ogg",
        "CC0-1.0",
        "the name of the artist",
        SINGING,
    ),
    Recordings(
        "f90/jamendolyrics",
        r"mp3/Fantasma_-_Los_Rombos\.mp3",
        "CC-BY-SA",
        "JamendoLyrics.csv",
        (*SINGING, *MAN, "rock"),
    ),
    Recordings(
        "librosa/data", r"audio/Karissa_Hobbs_-_Lets_Go_Fishin\.hq\.ogg", "CC-BY-3.0", "the .txt beside it", SINGING
    ),
    Recordings(
        "librosa/data",
        r"audio/(Kevin_MacLeod_-_P_I_.*|Hungarian_Dance.*|sorohanro.*)\.hq\.ogg",
        "CC-BY-3.0, public-domain",
        "the .txt beside it",
        INSTRUMENTAL,
    ),
    Recordings("librosa/data", r"audio/198-209-0000\.hq\.ogg", "CC-BY-4.0", "the .txt beside it", (*SPEECH, *WOMAN)),
    Recordings(
        "librosa/data",
        r"audio/(3436-172162|5703-47212)-0000\.hq\.ogg",
        "CC-BY-4.0",
        "the .txt beside it",
        (*SPEECH, *MAN),
    ),
    Recordings(
        "coqui-ai/TTS",
        r"tests/data/ljspeech/wavs/LJ.*\.wav",
        "public-domain",
        "keithito.com/LJ-Speech-Dataset",
        (*SPEECH, *WOMAN),
    ),
    Recordings("agbrs/agb", r".*/JoshWoodward-.*\.wav", "CC-BY-4.0", "README.md", (*SINGING, *MAN)),
    Recordings(
        "awwaiid/thelackthereof",
        r"public/docs/music/(code_on_my_mind|immortal_crowd|umbrellas|album1/03_-_Immaterial_Things)\.mp3",
        "CC-BY-SA-3.0",
        "content/{Code On My Mind,Immortal Crowd,Umbrellas,Immaterial Things}.md",
        (*SINGING, *MAN, "folk"),
    ),
    Recordings(
        "spotify/basic-pitch",
        r"tests/resources/vocadito_\d+\.wav",
        "CC-BY-4.0",
        "zenodo.org/records/5578807",
        (*SINGING, "a cappella"),
    ),
    Recordings(
        "mir-dataset-loaders/mirdata",
        r"tests/resources/mir_datasets/vocadito/.*\.wav",
        "CC-BY-4.0",
        "zenodo.org/records/5578807",
        (*SINGING, "a cappella"),
    ),
    Recordings(
        "skratchdot/philharmonia-samples",
        r"audio/(?P<instrument>[a-z ]+)/(?!.*(phrase|gliss|trill|effect)).*\.mp3",
        "CC-BY-SA-3.0",
        "philharmonia.co.uk/resources/sound-samples",
        (),
        "notes",
    ),
    Recordings(
        "GuitarsAI/BasicsMusicalInstrumClassifi",
        r"audio/london_phill_dataset_multi/(?P<instrument>viola|trumpet)/.*\.(mp3|wav)",
        "CC-BY-SA-3.0",
        "philharmonia.co.uk/resources/sound-samples",
        (),
        "notes",
        deleted=True,
    ),
    Recordings(
        "sfzinstruments/karoryfer.weresax", r"Samples/alto/.*\.wav", "CC0-1.0", "LICENSE", ("saxophone",), "notes"
    ),
    Recordings(
        "sfzinstruments/karoryfer.emilyguitar", r"notes/.*\.wav", "CC0-1.0", "LICENSE", ("electric guitar",), "notes"
    ),
    Recordings(
        "sfzinstruments/dsmolken.double-bass",
        r"(arco|pizz)/[^/]*\.wav",
        "CC0-1.0",
        "LICENSE",
        ("double bass",),
        "notes",
    ),
    Recordings("freepats/spanish-classical-guitar", r"samples/.*\.flac", "CC0-1.0", "LICENSE", ("guitar",), "notes"),
    Recordings(
        "sfzinstruments/SplendidGrandPiano", r"Samples/.*\.flac", "public-domain", "README.md", ("piano",), "notes"
    ),
    Recordings(
        "sfzinstruments/Discord-SFZ-GM-Bank",
        r"Discord GM/Melodic/105-Sitar/Str.*\.flac",
        "CC0, CC-BY",
        "the wiki of the repository",
        ("sitar",),
        "notes",
    ),
)

FLAGS = flags.FLAGS


def define_flags() -> None:
    """Define the program's flags."""
    flags.DEFINE_string("clones", None, "Folder with a clone of each repository, as OWNER+NAME.", required=True)
    flags.DEFINE_enum("kind", "voices", ("voices", "notes"), "What to copy.")
    flags.DEFINE_string("out", None, "Folder of the corpus.", required=True)


def main(argv: Sequence[str]) -> None:
    """Copy the recordings and print the minutes of each source."""
    if len(argv) > 1:
        raise app.UsageError(f"expected flags only. Received: {argv[1]!r}")
    try:
        rows = copy_recordings(Path(FLAGS.clones), Path(FLAGS.out), FLAGS.kind)
    except (KerasTaggerError, OSError) as error:
        sys.exit(f"error: {error}")
    for package in dict.fromkeys(row["package"] for row in rows):
        seconds = [row["seconds"] for row in rows if row["package"] == package]
        print(f"{package:24} {len(seconds):5} files {sum(seconds) / 60:7.1f} min")


def copy_recordings(
    clones: Path, out: Path, kind: str, sources: Sequence[Recordings] = REPOSITORIES
) -> list[dict[str, Any]]:
    """Copy the files of a kind that the clones contain, and write their manifest.

    Args:
        clones: Folder of the clones.
        out: Folder of the corpus.
        kind: "voices" or "notes".
        sources: What to copy.

    Returns:
        The rows of the manifest.

    Raises:
        ManifestError: If no file was found.
    """
    rows = []
    for source in sources:
        git_dir = find_clone(clones, source.repository)
        if source.kind != kind:
            continue
        if git_dir is None:
            logging.warning("%s: left out: no clone in %s.", source.repository, clones)
            continue
        found = list(files_of(git_dir, source))
        if not found:
            logging.warning("%s: left out: no file like %s.", source.repository, source.pattern)
        package = source.repository.replace("/", "-").lower()
        for blob, match in found:
            tags = (*source.tags, *match.groupdict().values())
            name = re.sub(r"[^A-Za-z0-9_.+#-]+", "_", "_".join(match[0].split("/")[-2:]))
            path = out / package / name
            if not path.exists():
                content = subprocess.run(["git", f"--git-dir={git_dir}", "cat-file", "blob", blob], capture_output=True)
                if content.returncode:
                    logging.warning("%s: left out: %s is absent from the clone.", source.repository, match[0])
                    continue
                with replacing(path) as temporary:
                    temporary.write_bytes(content.stdout)
            row = {"path": f"{package}/{name}", "tags": ";".join((package, *tags)), "group": f"{package}/{name}"}
            row.update(package=package, track=path.stem, licence=source.licence)
            try:
                seconds = audio.info(path).seconds
                if seconds is None:
                    seconds = len(audio.load(path, 16000)) / 16000
            except KerasTaggerError as error:
                logging.warning("%s: left out: %s", path, error)
                continue
            rows.append({**row, "seconds": round(seconds, 3)})
    if not rows:
        raise ManifestError(f"expected clones of repositories with {kind}. Received: '{clones}', which has none")
    write_csv(out / "manifest.csv", COLUMNS, rows)
    return rows


def find_clone(clones: Path, repository: str) -> Path | None:
    """Return the git directory of a clone, or None."""
    folder = clones / repository.replace("/", "+")
    return next((path for path in (folder / ".git", folder / "repo", folder) if (path / "objects").is_dir()), None)


def files_of(git_dir: Path, source: Recordings) -> Iterator[tuple[str, re.Match[str]]]:
    """Return the blobs of a repository whose paths match the pattern, in order of their paths."""
    if source.deleted:
        command = ["log", "--all", "--format=", "--raw", "--no-abbrev", "-z", "--diff-filter=A"]
        entries = re.findall(r":\d+ \d+ [0-9a-f]+ ([0-9a-f]+) A\0([^\0]+)\0", _git(git_dir, *command))
    else:
        entries = re.findall(r"\d+ blob ([0-9a-f]+)\t([^\0]+)\0", _git(git_dir, "ls-tree", "-r", "-z", "HEAD"))
    for blob, path in sorted(entries, key=lambda entry: entry[1]):
        match = re.fullmatch(source.pattern, path)
        if match:
            yield blob, match


def _git(git_dir: Path, *arguments: str) -> str:
    done = subprocess.run(["git", f"--git-dir={git_dir}", *arguments], capture_output=True, check=True)
    return done.stdout.decode("utf-8", "replace")


if __name__ == "__main__":
    define_flags()
    app.run(main)
