"""`leaderboard`: several models in order, each with its distance from the first."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras_tagger.errors import ModelError
from keras_tagger.evaluation.compare import compare
from keras_tagger.evaluation.report import Report, load_report
from keras_tagger.files import write_csv, write_text
from keras_tagger.tables import dataframe, text_table

_SCORES = ("accuracy", "roc_auc", "pr_auc")
_TITLES = {"rank": "", "model": "model", "accuracy": "accuracy", "roc_auc": "ROC-AUC", "pr_auc": "PR-AUC"}


@dataclass(frozen=True, repr=False)
class Leaderboard:
    """Models from best to worst; `keras_tagger.leaderboard` and `keras_tagger.sweep` make it.

    Iterating yields the rows as dictionaries: `rank`, `model`, the values that `by` and the settings name, the scores,
    `behind` (the difference from the first model in the last of these scores, with the bootstrap interval `low` to
    `high` and its `p_value`) and `error` for a run that failed.

    Attributes:
        rows: The rows.
        columns: The keys of the rows, in order.
        by: The column that orders them.

    Example:
        >>> board = kt.leaderboard(["runs/a", "runs/b", "runs/c"])
        >>> print(board)
        >>> board.save("board.html")
    """

    rows: tuple[Mapping[str, Any], ...]
    columns: tuple[str, ...]
    by: str

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def best(self) -> str:
        """The name of the first model."""
        return str(self.rows[0]["model"])

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; undefined numbers are None."""
        rows = [{name: _finite(value) for name, value in row.items()} for row in self.rows]
        return {"by": self.by, "models": rows}

    def to_dataframe(self) -> Any:
        """Return the rows as a pandas DataFrame; pandas must be installed."""
        return dataframe(self.rows, self.columns)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a CSV file or, if the name ends in `.html`, a page.

        Raises:
            ModelError: If the name has another ending.
        """
        path = Path(path)
        if path.suffix == ".csv":
            write_csv(path, self.columns, [{key: _finite(value) for key, value in row.items()} for row in self.rows])
        elif path.suffix == ".html":
            from keras_tagger.views.pages import render

            head, *rows = self._cells()
            write_text(
                path, render("leaderboard.html.j2", title="Leaderboard", head=head, rows=rows, note=self._note())
            )
        else:
            raise ModelError(f"expected a path that ends in .csv or .html. Received: {str(path)!r}.")

    def __repr__(self) -> str:
        return f"<Leaderboard: {len(self)} models, {self.best} first by {self.by}>"

    def __str__(self) -> str:
        return f"{text_table(self._cells())}\n\n{self._note()}"

    def _repr_html_(self) -> str:
        from keras_tagger.views.pages import table

        head, *rows = self._cells()
        return table(rows, head, note=self._note())

    def _cells(self) -> list[list[str]]:
        shown = [name for name in self.columns if name not in ("low", "high", "rank")]
        rows = []
        for row in self.rows:
            cells = {name: _text(row.get(name)) for name in shown}
            if row.get("low") is not None:
                cells["behind"] += f" ({row['low']:+.4f} to {row['high']:+.4f})"
            rows.append([cells[name] for name in shown])
        return [[_TITLES.get(name, name) for name in shown], *rows]

    def _note(self) -> str:
        return (
            f"Ordered by {_TITLES.get(self.by, self.by)}. `behind` is the difference from the first model with a 95 % "
            "interval of a paired bootstrap over clips. p-values are not corrected for the number of models, and the "
            "best of many is partly so by chance."
        )


def leaderboard(
    reports: Sequence[Report | str | os.PathLike[str]] | Mapping[str, Report | str | os.PathLike[str]],
    by: str | None = None,
    resamples: int = 1000,
    seed: int = 0,
    values: Mapping[str, Mapping[str, Any]] | None = None,
) -> Leaderboard:
    """Order models by their reports on the same clips, and compare each with the first by a paired bootstrap.

    Args:
        reports: `Report`s, or directories with `report.json` and `scores.npz` such as run directories; also by name.
        by: "roc_auc", "pr_auc", "accuracy" or a column of `values`, the larger the better. By default accuracy if all
            reports have it, else ROC-AUC.
        resamples: Number of resamples of the bootstrap, at least 1.
        seed: Seed of the bootstrap, at least 0.
        values: More columns by the name of the model, such as its settings.

    Raises:
        ModelError: If there are no reports, `by` is no column, or `compare` cannot compare two of them.
        ModelNotFoundError: If there is no report.

    Example:
        >>> print(kt.leaderboard({"small": "runs/small", "large": "runs/large"}, by="pr_auc"))
    """
    named = reports if isinstance(reports, Mapping) else _named(reports)
    if not named:
        raise ModelError("expected at least one report. Received: none.")
    opened = {name: of if isinstance(of, Report) else load_report(of) for name, of in named.items()}
    exclusive = all(report.accuracy is not None for report in opened.values())
    scores = _SCORES if exclusive else _SCORES[1:]
    extra = tuple(dict.fromkeys(key for row in (values or {}).values() for key in row))
    by = by or scores[0]
    if by not in (*scores, *extra):
        raise ModelError(f"by: expected one of {', '.join((*scores, *extra))}. Received: {by!r}.")
    rows = {
        name: {
            **(values or {}).get(name, {}),
            **{score: getattr(report, score) for score in scores},
            "clips": report.n_clips,
        }
        for name, report in opened.items()
    }

    def order(name: str) -> float:
        value = rows[name].get(by)
        return -value if isinstance(value, int | float) and math.isfinite(value) else math.inf

    ranked = sorted(rows, key=order)
    measure = by if by in scores else scores[0]
    table: list[dict[str, Any]] = []
    for rank, name in enumerate(ranked, 1):
        row: dict[str, Any] = {"rank": rank, "model": name, **rows[name]}
        if rank > 1:
            found = compare(opened[ranked[0]], opened[name], resamples, seed).numbers[measure]
            row |= {"behind": found.difference, "low": found.low, "high": found.high, "p_value": found.p_value}
        table.append(row)
    distance = ("behind", "low", "high", "p_value") if len(table) > 1 else ()
    return Leaderboard(tuple(table), ("rank", "model", *extra, *scores, "clips", *distance), by)


def _named(reports: Sequence[Report | str | os.PathLike[str]]) -> dict[str, Report | str | os.PathLike[str]]:
    if isinstance(reports, str | os.PathLike):
        raise ModelError(f"expected a list of reports. Received: {os.fspath(reports)!r}.")
    named: dict[str, Report | str | os.PathLike[str]] = {}
    for number, report in enumerate(reports, 1):
        name = f"model {number}" if isinstance(report, Report) else str(Path(report))
        if name in named:
            raise ModelError(f"expected different reports. Received: {name} twice.")
        named[name] = report
    return named


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if 1e-3 <= abs(value) < 1e3 or value == 0 else f"{value:g}"
    return str(value)


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
