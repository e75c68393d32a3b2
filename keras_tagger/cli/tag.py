"""The command `tag`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from keras_tagger.cli.documents import ABOUT, DOCUMENTS, document_format, write_documents
from keras_tagger.cli.flags import EXPORTED_HELP, Commands, add_model_flag, add_runtime_flag
from keras_tagger.cli.inputs import add_inputs, answers, find_inputs
from keras_tagger.cli.output import FORMATS, add_tag_flags, check_output, chosen_format, tags_form, write_results

if TYPE_CHECKING:
    from keras_tagger.audio import AudioSource

_EXAMPLES = """\
  keras-tagger tag song.mp3
  keras-tagger tag my_music/ mix.m3u8 --top 3 --output tags.csv
  keras-tagger tag song.mp3 --rank margin
  ffmpeg -v error -i film.mkv -f wav - | keras-tagger tag -
  keras-tagger tag *.mp3 --merge_synonyms --csv > tags.csv
  keras-tagger tag song.mp3 --model runs/demo --format json
  keras-tagger tag song.mp3 --runtime onnx
  keras-tagger tag my_music/ --format jams --output annotations/
"""


def add(commands: Commands) -> None:
    """Add the command."""
    command = commands.add(
        "tag",
        run,
        "print the best tags of audio, with * if the score reaches the tag's threshold",
        _EXAMPLES,
    )
    add_inputs(command)
    add_model_flag(command, f", {EXPORTED_HELP}")
    add_runtime_flag(command)
    add_tag_flags(command, (*FORMATS, *DOCUMENTS), ABOUT)


def run(arguments: argparse.Namespace) -> int:
    """Tag audio with a local model."""
    inputs = find_inputs(arguments.files)
    check_output(arguments, inputs)

    runtime = {} if arguments.runtime is None else {"runtime": arguments.runtime}

    def tag(sources: Iterator[AudioSource]) -> Iterator[Any]:
        from keras_tagger.tagger import load

        tagger = load(arguments.model, **runtime)
        found = tagger.tag_files(sources, arguments.top, arguments.merge_synonyms, arguments.rank)
        yield from (tags for _, tags in found)

    if document := document_format(arguments):
        return write_documents(arguments, inputs, answers(inputs, tag), document)
    return write_results(arguments, inputs, answers(inputs, tag), tags_form(chosen_format(arguments), arguments.rank))
