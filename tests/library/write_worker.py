"""Writes tags into files, or undoes it, until it kills itself: `write_worker.py JOURNAL WHEN COUNT FILE...`.

At the COUNTth file it dies as if by `kill -9`, at the moment WHEN: a function of the standard library or the package
that it is about to call, or has just called.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys

from keras_tagger.library import writing
from keras_tagger.library.journal import Journal

ORIGIN = writing.Origin("tiny", "12345678", "1.0", "87654321")
FIELDS = {"genre": ["Jazz", "Blues"], "mood": ["Calm"], "instrument": ["Vibraphone", "Drums"]}
MOMENTS = {
    "during the copy": (shutil, "copyfile", "after"),
    "during the record": (Journal, "record", "before"),
    "before the replacement": (os, "replace", "before"),
    "after the replacement": (os, "replace", "after"),
    "before an undo": (os, "replace", "before"),
    "after an undo": (os, "replace", "after"),
}


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    journal_path, when, count, *files = sys.argv[1:]
    owner, name, side = MOMENTS[when]
    original = getattr(owner, name)
    left = int(count)

    def mortal(*arguments: object, **options: object) -> object:
        nonlocal left
        left -= 1
        if left == 0 and side == "before":
            die()
        found = original(*arguments, **options)
        if left == 0:
            die()
        return found

    setattr(owner, name, mortal)
    with Journal(journal_path) as journal:
        for file in files:
            if when.endswith("undo"):
                writing.undo(file, journal)
                continue
            target = writing.find_target(file, ORIGIN)
            writing.write(writing.make_plan(target, FIELDS, ORIGIN), journal)


if __name__ == "__main__":
    main()
