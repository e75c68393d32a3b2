"""A page of its own with the maps of a clip and players beside them: nothing else is needed to look and listen."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np
import numpy.typing as npt

from keras_tagger import audio as audio_module
from keras_tagger.audio import AudioSource
from keras_tagger.explain.listen import listen
from keras_tagger.heatmap import Heatmap

SAMPLE_RATE = 16000
SHARE = 0.25

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
  body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 1000px; padding: 0 1rem; color: #222; }}
  h1 {{ font-size: 1.3rem; overflow-wrap: anywhere; }}
  #map {{ position: relative; cursor: crosshair; }}
  #map img {{ width: 100%; display: block; }}
  #now {{ position: absolute; top: 0; bottom: 0; width: 2px; background: #d33; left: {left}%; pointer-events: none; }}
  audio {{ width: 100%; max-width: 420px; vertical-align: middle; }}
  td audio {{ width: 300px; }}
  table {{ border-collapse: collapse; }}
  td, th {{ padding: .3rem .8rem .3rem 0; text-align: left; font-weight: normal; }}
  th {{ color: #555; }}
</style>
<h1>{title}</h1>
<p>{method}. Click into the picture to hear that moment.</p>
<div id="map"><img alt="{method} over time" src="{picture}"><div id="now"></div></div>
<p><audio id="clip" controls src="{clip}"></audio></p>
<table>
<tr><th>tag<th>score<th>the highest {share} of its map<th>all else</tr>
{rows}
</table>
<script>
  const clip = document.getElementById("clip"), map = document.getElementById("map");
  const now = document.getElementById("now");
  const left = {left} / 100, width = {width} / 100, start = {start}, seconds = {seconds};
  function follow() {{
    const place = Math.min(Math.max((clip.currentTime - start) / seconds, 0), 1);
    now.style.left = 100 * (left + width * place) + "%";
    requestAnimationFrame(follow);
  }}
  follow();
  map.onclick = event => {{
    const box = map.getBoundingClientRect();
    const place = ((event.clientX - box.left) / box.width - left) / width;
    clip.currentTime = start + seconds * Math.min(Math.max(place, 0), 1);
    clip.play();
  }};
</script>
</html>
"""


def page(heatmap: Heatmap, audio: AudioSource, title: str = "") -> str:
    """The maps' picture, with a line that follows a player of the clip, and each tag's explained part to listen to.

    Pictures and audio (flac, 16 kHz) are in the page itself.

    Args:
        heatmap: of that audio.
        audio: as of `Tagger`.
        title: over the page.

    Raises:
        AudioError, AudioNotFoundError: audio that cannot be used.
    """
    waveform = audio_module.load(audio, SAMPLE_RATE)
    axes = heatmap.plot()
    figure = axes.figure
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")  # type: ignore[union-attr]
    box, (start, end) = axes.get_position(), axes.get_xlim()
    rows = []
    scores = heatmap.scores if heatmap.scores is not None else [None] * len(heatmap.tags)
    for tag, score in zip(heatmap.tags, np.asarray(scores), strict=True):
        heard = listen(heatmap, (waveform, SAMPLE_RATE), tag, SHARE, SAMPLE_RATE)
        players = "".join(f'<td><audio controls src="{_flac(part)}"></audio>' for part in (heard.kept, heard.removed))
        rows.append(f"<tr><td>{html.escape(tag)}<td>{'' if score is None else f'{score:.2f}'}{players}</tr>")
    return _PAGE.format(
        title=html.escape(title or "explanation"),
        method=html.escape(heatmap.method),
        picture=_data("image/png", buffer.getvalue()),
        clip=_flac(waveform),
        rows="\n".join(rows),
        share=f"{100 * SHARE:.0f} %",
        left=round(100 * box.x0, 3),
        width=round(100 * box.width, 3),
        start=round(start, 4),
        seconds=round(end - start, 4),
    )


def _flac(waveform: npt.NDArray[Any]) -> str:
    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, np.clip(waveform, -1.0, 1.0), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
    return _data("audio/flac", buffer.getvalue())


def _data(kind: str, content: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode('ascii')}"
