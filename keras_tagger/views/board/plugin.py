"""The backend of the tab: TensorBoard loads it through the entry point `tensorboard_plugins`.

Everything is read through TensorBoard's data provider, so no path comes from a request. TensorFlow is not imported.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from importlib import resources
from pathlib import PurePosixPath
from typing import Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.errors import InvalidArgumentError, NotFoundError
from tensorboard.plugins import base_plugin
from werkzeug import wrappers
from werkzeug.http import parse_options_header

from keras_tagger.errors import ModelError
from keras_tagger.views.board.records import (
    AUDIO_TYPES,
    PLUGIN_NAME,
    audio_tag,
    clip_tag,
    maps_tag,
    parse_maps_tag,
    unpack,
)

# There is a point per tag (`records`), or several if a step was logged again.
_SAMPLES = 100
_TYPES = {".js": "text/javascript", ".css": "text/css"}
_AUDIO_SECONDS = 3600  # how long a browser may keep audio, which does not change

Handler = Callable[[wrappers.Request], wrappers.Response]


class TaggerPlugin(base_plugin.TBPlugin):
    """The plugin `keras_tagger` of TensorBoard.

    Args:
        context: TensorBoard's context, of which only the data provider is used.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._provider = context.data_provider

    def is_active(self) -> bool:
        """Return False: TensorBoard itself shows the tab if a run has data of this plugin."""
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Return the tab's name and its script."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Listen")

    def get_plugin_apps(self) -> Mapping[str, Any]:
        """Return a WSGI application per route."""
        pages: dict[str, Handler] = {
            "/runs": self._runs,
            "/clip": self._clip,
            "/audio": self._audio,
            "/maps": self._maps,
            "/scores": self._scores,
            **{f"/{name}": functools.partial(_asset, read) for name, read in _assets().items()},
        }
        return {route: _application(handler) for route, handler in pages.items()}

    def _runs(self, request: wrappers.Request) -> wrappers.Response:
        """List the runs in TensorBoard's order, each with its clips and their steps."""
        ctx, experiment = _context(request)
        tensors = self._provider.list_tensors(ctx, experiment_id=experiment, plugin_name=PLUGIN_NAME)
        runs = self._provider.list_runs(ctx, experiment_id=experiment)
        # As TensorBoard's front-end orders them, which gives each its colour.
        runs = sorted(runs, key=lambda run: (run.start_time is None, run.start_time or 0.0, run.run_name))
        found = []
        for run in runs:
            tags = tensors.get(run.run_name, {})
            steps: dict[str, list[int]] = {tag.removeprefix("clip/"): [] for tag in tags if tag.startswith("clip/")}
            for name, step in filter(None, map(parse_maps_tag, tags)):
                if name in steps:
                    steps[name].append(step)
            clips = [{"name": name, "steps": sorted(steps[name])} for name in sorted(steps) if steps[name]]
            found.append({"name": run.run_name, "clips": clips})
        return _json(request, {"runs": found})

    def _clip(self, request: wrappers.Request) -> wrappers.Response:
        """Return the clip document without tags and maps."""
        run, name = _names(request)
        document = unpack(self._tensor(request, run, clip_tag(name))[0])
        return _json(request, {**document, "name": name})

    def _maps(self, request: wrappers.Request) -> wrappers.Response:
        """Return the part of the clip document that a step has: tags and maps."""
        run, name = _names(request)
        return _json(request, unpack(self._tensor(request, run, maps_tag(name, _step(request)))[1]))

    def _scores(self, request: wrappers.Request) -> wrappers.Response:
        """Return the scores of a clip at all steps: `tags`, `steps` and `scores` by step, None if not known."""
        run, name = _names(request)
        ctx, experiment = _context(request)
        listed = self._provider.list_tensors(
            ctx,
            experiment_id=experiment,
            plugin_name=PLUGIN_NAME,
            run_tag_filter=provider.RunTagFilter(runs=[run]),
        )
        steps = sorted(found[1] for tag in listed.get(run, {}) if (found := parse_maps_tag(tag)) and found[0] == name)
        if not steps:
            raise NotFoundError(f"run {run!r} has no clip {name!r}")
        data = self._tensors(request, run, [maps_tag(name, step) for step in steps])
        by_step = {step: _scores_of(data[maps_tag(name, step)][0]) for step in steps if maps_tag(name, step) in data}
        tags = list(dict.fromkeys(tag for scores in by_step.values() for tag in scores))
        rows = [[scores.get(tag) for tag in tags] for scores in by_step.values()]
        return _json(request, {"tags": tags, "steps": list(by_step), "scores": rows})

    def _audio(self, request: wrappers.Request) -> wrappers.Response:
        """Return a clip's audio, or the range of its bytes that was asked for."""
        run, name = _names(request)
        kind, data = self._tensor(request, run, audio_tag(name))
        mime = kind.decode("ascii", "replace")
        if parse_options_header(mime)[0] not in AUDIO_TYPES:
            raise InvalidArgumentError(f"expected audio of {', '.join(AUDIO_TYPES)}. Received: {mime!r}")
        response = wrappers.Response(data, mimetype=mime)
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Cache-Control"] = f"private, max-age={_AUDIO_SECONDS}"
        response.add_etag()
        return response.make_conditional(request, accept_ranges=True, complete_length=len(data))

    def _tensor(self, request: wrappers.Request, run: str, tag: str) -> list[bytes]:
        found = self._tensors(request, run, [tag])
        if tag not in found:
            raise NotFoundError(f"run {run!r} has no {tag!r}")
        return found[tag]

    def _tensors(self, request: wrappers.Request, run: str, tags: list[str]) -> dict[str, list[bytes]]:
        """Read the newest value of each tag, byte strings."""
        ctx, experiment = _context(request)
        series = self._provider.read_tensors(
            ctx,
            experiment_id=experiment,
            plugin_name=PLUGIN_NAME,
            downsample=_SAMPLES,
            run_tag_filter=provider.RunTagFilter(runs=[run], tags=tags),
        )
        found = {}
        for tag, points in series.get(run, {}).items():
            values = list(points[-1].numpy.flat) if points else []
            expected = 1 if tag.startswith("clip/") else 2
            if len(values) != expected or not all(isinstance(value, bytes) for value in values):
                raise InvalidArgumentError(f"expected {tag!r} as log_explanation writes it. Received: another tensor")
            found[tag] = values
        return found


def _assets() -> dict[str, Callable[[], bytes]]:
    """Return how to read each file that the browser may load, by its name."""
    folders = [resources.files(f"keras_tagger.views.{room}") / "assets" for room in ("board", "player")]
    entries = [entry for folder in folders for entry in folder.iterdir()]
    return {entry.name: entry.read_bytes for entry in entries if entry.name.endswith(tuple(_TYPES))}


def _scores_of(packed: bytes) -> dict[str, float]:
    """Return the scores of a step by tag."""
    scores = unpack(packed).get("scores")
    if not isinstance(scores, dict) or not all(isinstance(score, int | float) for score in scores.values()):
        raise ModelError("expected a score by tag. Received: something else.")
    return scores


def _application(handler: Handler) -> Any:
    """Make a WSGI application of a handler, which reports damaged data as a bad request."""

    @wrappers.Request.application
    def application(request: wrappers.Request) -> wrappers.Response:
        try:
            return handler(request)
        except ModelError as error:
            raise InvalidArgumentError(str(error)) from None

    return application


def _asset(read: Callable[[], bytes], request: wrappers.Request) -> wrappers.Response:
    return http_util.Respond(request, read(), _TYPES[PurePosixPath(request.path).suffix])


def _json(request: wrappers.Request, content: Any) -> wrappers.Response:
    return http_util.Respond(request, json.dumps(content, allow_nan=False), "application/json")


def _context(request: wrappers.Request) -> tuple[Any, str]:
    return plugin_util.context(request.environ), plugin_util.experiment_id(request.environ)


def _names(request: wrappers.Request) -> tuple[str, str]:
    """Return the run and the clip that a request names."""
    found = [request.args.get(key, "") for key in ("run", "clip")]
    if not all(found):
        raise InvalidArgumentError(
            f"expected ?run=...&clip=... Received: {request.query_string.decode('ascii', 'replace')!r}"
        )
    return found[0], found[1]


def _step(request: wrappers.Request) -> int:
    text = request.args.get("step", "")
    parsed = parse_maps_tag(f"maps/x/{text}")
    if parsed is None or parsed[0] != "x":
        raise InvalidArgumentError(f"expected step=... as a whole number of 0 or more. Received: {text!r}")
    return parsed[1]
