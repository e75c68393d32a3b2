"""Layers of Sonic Visualiser (`.svl`, XML), which it shows above the audio of a session.

Times are counted in frames of the session's audio, so a layer needs its sample rate.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger.files import printable
from keras_tagger.interchange.labels import Label

_FILE = """\
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE sonic-visualiser>
<sv>
  <data>
    {model}
    {dataset}
  </data>
  <display>
    {layer}
  </display>
</sv>
"""


def regions(labels: Iterable[Label], sample_rate: int, name: str) -> str:
    """Return a layer of regions: bars at the height of each label's value, from its start to its end.

    Args:
        labels: The labels.
        sample_rate: Sample rate of the session's audio in Hz.
        name: Name of the layer.
    """
    rows = [
        (round(label.start * sample_rate), round((label.end - label.start) * sample_rate), label) for label in labels
    ]
    points = "".join(
        f'\n      <point frame="{frame}" value="{label.value:.6g}" duration="{frames}" label={_text(label.name)}/>'
        for frame, frames, label in rows
    )
    values = [label.value for *_, label in rows] or [0.0]
    model = (
        f'<model id="1" name={_text(name)} sampleRate="{sample_rate}" start="0" '
        f'end="{max((frame + frames for frame, frames, _ in rows), default=0)}" type="sparse" dimensions="3" '
        f'resolution="1" notifyOnAdd="true" dataset="0" subtype="region" minimum="{min(values):.6g}" '
        f'maximum="{max(values):.6g}" units="" valueQuantization="0"/>'
    )
    return _FILE.format(
        model=model,
        dataset=f'<dataset id="0" dimensions="3">{points}\n    </dataset>',
        layer=f'<layer id="2" type="regions" name={_text(name)} model="1" verticalScale="0" plotStyle="0"/>',
    )


def grid(names: Sequence[str], curves: npt.NDArray[Any], edges: npt.NDArray[Any], sample_rate: int, name: str) -> str:
    """Return a layer with a coloured row for each row of a map (a "colour 3D plot").

    Columns of a layer have the same length, so a map with columns of different lengths is resampled.

    Args:
        names: The rows.
        curves: float `[n_rows, T]`.
        edges: Where the columns begin and the last one ends, in seconds, float `[T + 1]`.
        sample_rate: Sample rate of the session's audio in Hz.
        name: Name of the layer.
    """
    start = round(float(edges[0]) * sample_rate)
    column = max(round(float(np.median(np.diff(edges))) * sample_rate), 1)
    count = max(round((float(edges[-1]) * sample_rate - start) / column), 1)
    centres = (start + (np.arange(count) + 0.5) * column) / sample_rate
    wanted = np.clip(np.searchsorted(edges, centres, side="right") - 1, 0, curves.shape[1] - 1)
    bins = "".join(f'\n      <bin number="{number}" name={_text(row)}/>' for number, row in enumerate(names))
    rows = "".join(
        f'\n      <row n="{number}">{" ".join(f"{value:.6g}" for value in values)}</row>'
        for number, values in enumerate(curves[:, wanted].T)
    )
    model = (
        f'<model id="1" name={_text(name)} sampleRate="{sample_rate}" start="{start}" end="{start + count * column}" '
        f'type="dense" dimensions="3" windowSize="{column}" yBinCount="{len(names)}" minimum="{curves.min():.6g}" '
        f'maximum="{curves.max():.6g}" dataset="0" startFrame="{start}"/>'
    )
    return _FILE.format(
        model=model,
        dataset=f'<dataset id="0" dimensions="3" separator=" ">{bins}{rows}\n    </dataset>',
        layer=f'<layer id="2" type="colour3dplot" name={_text(name)} model="1" opaque="true"/>',
    )


def _text(value: str) -> str:
    from xml.sax.saxutils import quoteattr  # imports urllib, which no other part of tagging needs

    return quoteattr(printable(value))
