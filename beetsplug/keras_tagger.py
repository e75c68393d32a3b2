"""A plugin of the music library manager beets, which tags music on import or with `beet kt-tag`.

    plugins: keras_tagger
    keras_tagger:
        auto: yes          # tag on import
        model: pons        # or several, with commas between them

Every item gets a field per tag, such as `kt_guitar` (a number, 0..1), `kt_tags` (the names of the tags that are
present), `kt_origin` (the model and its version, so that nothing is tagged twice) and `kt_embedding`.
"""

from __future__ import annotations

import base64
import optparse
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from beets import ui
from beets.dbcore import types
from beets.importer import ImportSession, ImportTask
from beets.library import Item, Library
from beets.plugins import BeetsPlugin

from keras_tagger import KerasTaggerError, __version__
from keras_tagger.storage.loading import find_model, stored_config, weights_digest

_ORIGIN, _TAGS, _EMBEDDING = "kt_origin", "kt_tags", "kt_embedding"


class KerasTaggerPlugin(BeetsPlugin):
    """Tags items with keras_tagger and finds items that sound alike."""

    def __init__(self) -> None:
        super().__init__()
        self.config.add({"auto": True, "model": "pons"})
        self._models = [name.strip() for name in self.config["model"].as_str().split(",")]
        self._taggers: list[Any] = []
        try:
            tags = [tag for model in self._models for tag in stored_config(find_model(model))["tags"]]
            digests = ",".join(map(weights_digest, self._models))
        except KerasTaggerError as error:
            raise ui.UserError(f"keras_tagger: {error}") from None
        self._origin = f"keras_tagger {__version__} {','.join(map(os.path.basename, self._models))} {digests}"
        self.item_types = {
            _ORIGIN: types.STRING,
            _TAGS: types.SEMICOLON_SPACE_DSV,
            _EMBEDDING: types.STRING,
            **{field_name(tag): types.Float(digits=3) for tag in tags},
        }
        if self.config["auto"].get(bool):
            self.import_stages = [self.imported]

    def commands(self) -> list[ui.Subcommand]:
        """Return the commands `kt-tag` and `kt-like`."""
        tag = ui.Subcommand("kt-tag", help="tag music with keras_tagger")
        tag.parser.add_option("-f", "--force", action="store_true", help="tag again what is tagged already")
        tag.func = self._tag
        like = ui.Subcommand("kt-like", help="list the music that sounds most like what matches the query")
        like.parser.add_option("-n", "--number", type="int", default=10, help="how many items to list (10)")
        like.func = self._like
        return [tag, like]

    def imported(self, session: ImportSession, task: ImportTask) -> None:
        """Tag the items of an import task."""
        self.tag_items(task.imported_items())

    def tag_items(self, items: Iterable[Item], force: bool = False) -> int:
        """Tag items that this model has not tagged yet, and store them.

        Args:
            items: The items.
            force: Whether to tag also those that it has tagged.

        Returns:
            How many items were tagged. An item whose file cannot be read is logged and left as it is.
        """
        todo = [item for item in items if force or item.get(_ORIGIN) != self._origin]
        count = 0
        for item, results in zip(todo, self._described([os.fsdecode(item.path) for item in todo]), strict=True):
            error = next((result for result in results if isinstance(result, KerasTaggerError)), None)
            if error is not None:
                self._log.error("{}", error)
                continue
            present: list[str] = []
            # If several models have a tag, the first one counts.
            for tags, _ in reversed(results):
                for entry in tags:
                    if entry.heard is not False:
                        item[field_name(entry.name)] = round(entry.score, 3)
            for tags, _ in results:
                present += [entry.name for entry in tags if entry.present and entry.heard is not False]
            item[_TAGS] = list(dict.fromkeys(present))
            item[_EMBEDDING] = base64.b64encode(results[0][1].astype("<f2").tobytes()).decode()
            item[_ORIGIN] = self._origin
            item.store()
            count += 1
            self._log.debug("{}: {}", item, "; ".join(item[_TAGS]))
        return count

    def _described(self, paths: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        if not paths:
            return
        if not self._taggers:
            from keras_tagger import load

            self._taggers = [load(model) for model in self._models]
        for results in zip(*(tagger.describe_files(paths) for tagger in self._taggers), strict=True):
            yield tuple(result for _, result in results)

    def _tag(self, lib: Library, options: optparse.Values, arguments: Sequence[str]) -> None:
        items = lib.items(arguments)
        count = self.tag_items(items, options.force)
        ui.print_(f"{count} of {len(items)} items tagged")

    def _like(self, lib: Library, options: optparse.Values, arguments: Sequence[str]) -> None:
        seeds = {item.id: found for item in lib.items(arguments) if (found := embedding(item)) is not None}
        if not seeds:
            raise ui.UserError("kt-like: expected a query for music that was tagged with beet kt-tag")
        centre = np.mean([found / np.linalg.norm(found) for found in seeds.values()], axis=0)
        others = {
            item: float(found @ centre / (np.linalg.norm(found) * np.linalg.norm(centre)))
            for item in lib.items()
            if item.id not in seeds and (found := embedding(item)) is not None and len(found) == len(centre)
        }
        for item in sorted(others, key=lambda item: -others[item])[: options.number]:
            ui.print_(f"{others[item]:.3f} {item}")


def field_name(tag: str) -> str:
    """Return the field of a tag.

    Example:
        >>> field_name("Hip-Hop")
        'kt_hip_hop'
    """
    return "kt_" + re.sub(r"[^a-z0-9]+", "_", tag.lower()).strip("_")


def embedding(item: Item) -> npt.NDArray[Any] | None:
    """Return the stored embedding of an item, float32 `[D]`; None if it was not tagged."""
    stored = item.get(_EMBEDDING)
    return np.frombuffer(base64.b64decode(stored), "<f2").astype(np.float32) if stored else None
