"""Read a catalogue, and find music in it."""

from __future__ import annotations

import bisect
import itertools
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.catalog import index
from keras_tagger.catalog.arrow import arrow
from keras_tagger.catalog.entries import Entry, stored_path
from keras_tagger.catalog.rows import Describer, Options
from keras_tagger.catalog.store import TAG, errors_file, matrix, read_about, read_columns, shards
from keras_tagger.catalog.why import Reason, margins, reasons
from keras_tagger.errors import AudioError, CatalogError
from keras_tagger.library.query import Query, find_name
from keras_tagger.tags import TagScore, synonym_groups

# Up to here, comparing all embeddings takes no longer than opening an index.
EXACT_ROWS = 50_000


@dataclass(frozen=True)
class Match:
    """A track that was found.

    Attributes:
        path: Its path or URL.
        seconds: Its length.
        similarity: Cosine of its embedding and the one that was asked for, -1..1; None if none was.
        tags: The names of its present tags, best first; of those with one meaning, the best.
        reasons: What it has in common with the track that was asked for.
    """

    path: str
    seconds: float
    similarity: float | None
    tags: tuple[str, ...]
    reasons: tuple[Reason, ...] = ()


class Catalog:
    """A catalogue that `build` has made.

    It may be read while it is being made: what is in its shards when it is opened counts.

    Args:
        folder: Its folder.

    Attributes:
        folder: Its folder.
        about: The model, its tags and the options.
        tags: The names of the tags, in the order of the scores.

    Raises:
        CatalogError: If the folder is not a catalogue, or pyarrow is not installed.

    Example:
        >>> found = Catalog("catalogue")
        >>> len(found)
        2970
        >>> for match in found.search("guitar>0.5 & !voice", n=3):
        ...     print(match.path, match.tags)
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        _, parquet = arrow()
        self.folder = Path(folder)
        self.about = read_about(folder)
        self.tags = self.about.tags
        self._shards = shards(folder)
        self._index: Any = None
        counts = [parquet.read_metadata(shard).num_rows for shard in self._shards]
        self._ends = list(itertools.accumulate(counts))
        self._describer: Describer | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def table(self, columns: Sequence[str] | None = None) -> Any:
        """Return all tracks, or some of their columns, as a pyarrow `Table`."""
        pa, parquet = arrow()
        if not self._shards:
            raise CatalogError(f"expected a catalogue with tracks. Received: {str(self.folder)!r}, which has none.")
        read = [parquet.read_table(shard, columns=columns, partitioning=None) for shard in self._shards]
        return pa.concat_tables([table.unify_dictionaries() for table in read])

    def errors(self) -> list[tuple[str, str]]:
        """Return the files that could not be read, each with the reason."""
        _, parquet = arrow()
        path = errors_file(self.folder)
        rows = parquet.read_table(path).to_pylist() if path.exists() else []
        return [(row["path"], row["error"]) for row in rows]

    def scores(self) -> npt.NDArray[Any]:
        """Return the scores of all tracks, float16 `[tracks, n_tags]`, in the order of `tags`."""
        table = self.table([f"{TAG}{tag}" for tag in self.tags])
        return np.stack([table[name].to_numpy() for name in table.column_names], axis=1)

    def embeddings(self) -> npt.NDArray[Any]:
        """Return the embeddings of all tracks, float16 `[tracks, D]`."""
        return matrix(self.table(["embedding"])["embedding"])

    def select(self, query: str) -> npt.NDArray[Any]:
        """Return the numbers of the tracks that match a query (`keras_tagger.library.query`), in order.

        Raises:
            LibraryError: If the query cannot be understood, or names a tag that the model does not have.
        """
        parsed = Query(query)
        names = list(self._groups())
        parsed.check(names)
        return np.flatnonzero(parsed.select(self._entry, names))

    def distinct(self, present: Sequence[str]) -> tuple[str, ...]:
        """Return tags without those that mean the same as an earlier one (`keras_tagger.tags.SYNONYMS`).

        Example:
            >>> found.distinct(["no voice", "flute", "no vocals"])
            ('no voice', 'flute')
        """
        leaders = synonym_groups(present, None).values()
        return tuple(present[members[0]] for members in leaders)

    def _groups(self) -> dict[str, list[int]]:
        """Return what each name of merged tags stands for."""
        return synonym_groups(self.tags, np.array([self.about.info[tag].has_evidence for tag in self.tags], bool))

    def _entry(self, name: str) -> TagScore:
        """Return the scores of all tracks for a name of merged tags, and whether it is present."""
        names = [self.tags[place] for place in self._groups()[name]]
        table = self.table([f"{TAG}{tag}" for tag in names])
        scores: Any = np.max([table[column].to_numpy() for column in table.column_names], axis=0).astype(np.float32)
        present: Any = np.zeros(len(scores), bool)
        for lists, start in self._lists("present"):
            rows = np.repeat(np.arange(len(lists)), lists.value_lengths().to_numpy())
            present[start + rows[np.isin(lists.flatten().to_numpy(zero_copy_only=False), names)]] = True
        return TagScore(name, scores, present, any(self.about.info[tag].has_evidence for tag in names))

    def _lists(self, column: str) -> Iterator[tuple[Any, int]]:
        start = 0
        for table in read_columns(self.folder, [column], self._shards):
            yield table[column].combine_chunks(), start
            start += len(table)

    def like(
        self, embedding: npt.NDArray[Any], n: int = 10, among: npt.NDArray[Any] | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """Find the tracks whose embeddings have the highest cosine with one.

        More than `EXACT_ROWS` tracks are found with an index (usearch, if it is installed), which is made when it is
        first needed and finds nearly all of the nearest ones. Up to there, and with `among`, all are compared.

        Args:
            embedding: float `[D]`.
            n: Number of tracks.
            among: Numbers of tracks to choose from; None for all.

        Returns:
            The numbers of the tracks and their cosines, highest first.
        """
        if among is None and len(self) > EXACT_ROWS and index.is_available():
            if self._index is None:
                self._index = index.updated(self.folder, self._shards, self.about.width)
            return index.nearest(self._index, embedding, n)
        query = index.normalized(embedding)
        numbers, cosines, start = [np.zeros(0, int)], [np.zeros(0, np.float32)], 0
        for table in read_columns(self.folder, ["embedding"], self._shards):
            chosen = np.arange(len(table))
            if among is not None:
                chosen = among[(among >= start) & (among < start + len(table))] - start
            if len(chosen):
                found = index.normalized(matrix(table["embedding"])[chosen]) @ query
                best = np.argsort(-found, kind="stable")[:n]
                numbers.append(start + chosen[best])
                cosines.append(found[best])
            start += len(table)
        joined, values = np.concatenate(numbers), np.concatenate(cosines)
        best = np.argsort(-values, kind="stable")[:n]
        return joined[best], values[best]

    def search(
        self,
        query: str | None = None,
        like: str | os.PathLike[str] | None = None,
        near_seconds: float | None = None,
        n: int = 10,
        listen: bool = False,
    ) -> list[Match]:
        """Find tracks that match a query, that are like a track, or both.

        Args:
            query: Conditions on tags, as for `keras-tagger playlist`; see `keras_tagger.library.query`.
            like: An audio file, in the catalogue or not. The track itself is left out.
            near_seconds: A time in that file: the tracks are like the model's window around it.
            n: Number of tracks.
            listen: Whether the moments of the tags in common are looked for in the audio, if they are not in the
                catalogue.

        Returns:
            The matches: the most similar ones first, or else those with the highest score of the first tag in `query`.

        Raises:
            CatalogError: If neither `query` nor `like` is given, or the model is not the one of the catalogue.
            LibraryError: If the query cannot be understood.
            AudioError: If `like` cannot be decoded.
        """
        if query is None and like is None:
            raise CatalogError("expected a query, a track, or both. Received: neither.")
        if near_seconds is not None and like is None:
            raise CatalogError("near_seconds: expected a track in which it is a time. Received: none.")
        among = None if query is None else self.select(query)
        if like is None:
            numbers = np.zeros(0, int) if among is None else self._by_score(str(query), among)[:n]
            return [self._match(row, None) for row in self.rows(numbers)]
        asked = self._asked(os.fspath(like), near_seconds)
        numbers, cosines = self.like(asked["embedding"], n + 1, among)
        matches, usual = [], self._usual()
        for row, cosine in zip(self.rows(numbers), cosines, strict=True):
            if row["path"] != asked["path"]:
                there = self._heard(row["path"]) if listen and "contributions" not in row else row
                found = reasons(self.tags, self.about.info, asked, {**row, **there}, usual)
                matches.append(self._match(row, float(cosine), found))
        return matches[:n]

    def rows(self, numbers: Iterable[int]) -> list[dict[str, Any]]:
        """Return tracks by their numbers, in that order, with `scores` in the order of `tags`."""
        _, parquet = arrow()
        wanted = [int(number) for number in numbers]
        found: dict[int, dict[str, Any]] = {}
        for shard, group in itertools.groupby(sorted(wanted), lambda number: bisect.bisect_right(self._ends, number)):
            start = self._ends[shard - 1] if shard else 0
            places = sorted(set(group))
            columns = [
                name for name in parquet.read_schema(self._shards[shard]).names if not name.startswith("taggram")
            ]
            table = parquet.read_table(self._shards[shard], columns=columns, partitioning=None)
            for place, row in zip(places, table.take([place - start for place in places]).to_pylist(), strict=True):
                row["scores"] = np.array([row.pop(f"{TAG}{tag}") for tag in self.tags], np.float32)
                row["embedding"] = np.array(row["embedding"], np.float32)
                found[place] = row
        return [found[number] for number in wanted]

    def find(self, path: str | os.PathLike[str]) -> int | None:
        """Return the number of the track of a path; None if there is none."""
        pa, _ = arrow()
        name, start = stored_path(os.fspath(path)), 0
        for table in read_columns(self.folder, ["path"], self._shards):
            place = pa.compute.index(table["path"], name).as_py()
            if place >= 0:
                return start + int(place)
            start += len(table)
        return None

    def _usual(self) -> npt.NDArray[Any]:
        """Return the mean margin of every tag, by the tracks of the first shard."""
        columns = [f"{TAG}{tag}" for tag in self.tags]
        table = next(read_columns(self.folder, columns, self._shards))
        scores = np.stack([table[name].to_numpy() for name in columns], axis=1)
        return margins(self.tags, self.about.info, scores).mean(axis=0)

    def _by_score(self, query: str, among: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Sort tracks by their scores of the first tag in the query, highest first."""
        name = find_name(Query(query).names[0], list(self._groups()))
        scores: Any = self._entry(name).score
        return among[np.argsort(-scores[among], kind="stable")]

    def _asked(self, path: str, near_seconds: float | None) -> dict[str, Any]:
        """Describe the track that was asked for: from the catalogue if it is there and unchanged, else by the model."""
        number = self.find(path) if near_seconds is None else None
        if number is not None:
            row = self.rows([number])[0]
            status = os.stat(path) if os.path.exists(path) else None
            if status is None or (status.st_size, status.st_mtime_ns) == (row["size"], row["mtime_ns"]):
                return row
        excerpt = None
        if near_seconds is not None:
            from keras_tagger.audio import info

            windowing = self._model().tagger.model.windowing
            length = windowing.window_samples / windowing.sample_rate
            end = info(path).seconds or near_seconds + length / 2
            start = max(min(near_seconds - length / 2, end - length), 0.0)
            excerpt = (start, start + length)
        return self._heard(path, excerpt)

    def _heard(self, path: str, excerpt: tuple[float, float] | None = None) -> dict[str, Any]:
        row = next(self._model().rows([Entry(stored_path(path))], excerpt=excerpt))
        if "error" in row:
            raise AudioError(row["error"])
        return row

    def _model(self) -> Describer:
        from keras_tagger.storage.loading import weights_sha256

        if self._describer is None:
            found = weights_sha256(self.about.model)
            if found != self.about.weights_sha256:
                raise CatalogError(
                    f"expected {self.about.model} with the weights that {str(self.folder)!r} was made with "
                    f"({self.about.weights_sha256[:8]}). Received: {found[:8]}."
                )
            self._describer = Describer(self.about.model, Options(top_contributions=len(self.tags)))
        return self._describer

    def _match(self, row: dict[str, Any], similarity: float | None, found: Sequence[Reason] = ()) -> Match:
        return Match(row["path"], row["seconds"], similarity, self.distinct(row["present"]), tuple(found))
