"""The command line, one file per command. `main` runs a command; the console script and the tests call it."""

from keras_tagger.cli.app import main

__all__ = ["main"]
