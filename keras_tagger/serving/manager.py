"""The models of a server and their versions: loading, hot swapping, labels, status.

A new version is loaded and warmed up before requests get it; the old one is unloaded when its last request has been
answered. If a version does not load, earlier ones are served, even at the start. It is tried again when its folder
changes, and otherwise `max_num_load_retries` times.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent import futures

import grpc
from tensorflow_serving.apis import get_model_status_pb2, model_pb2
from tensorflow_serving.config import logging_config_pb2

from keras_tagger.errors import ServingError
from keras_tagger.serving import log
from keras_tagger.serving.servable import Servable
from keras_tagger.serving.status import StatusError, invalid_argument, truncate
from keras_tagger.serving.versions import ServedModel, find_versions, fingerprint, highest, require_versions

State = get_model_status_pb2.ModelVersionStatus.State
START, LOADING, AVAILABLE, UNLOADING, END = (
    getattr(get_model_status_pb2.ModelVersionStatus, name)
    for name in ("START", "LOADING", "AVAILABLE", "UNLOADING", "END")
)
# Number of removed versions whose status is kept.
MAX_ENDED = 32
CLOSE_SECONDS = 5.0

Load = Callable[[str, str, int], Servable]


@dataclasses.dataclass
class _Version:
    """The state of a version; changed only under the manager's lock."""

    folder: str = ""
    state: int = START
    servable: Servable | None = None
    leases: int = 0
    error: str = ""
    failures: int = 0
    next_try: float = 0.0
    tried: tuple[int, ...] = ()

    def may_load(self, folder: str, retries: int) -> bool:
        """Return whether to load it, or to try again."""
        if not self.failures or fingerprint(folder) != self.tried:
            return True
        return self.failures <= retries and time.monotonic() >= self.next_try


@dataclasses.dataclass
class _Model:
    config: ServedModel
    versions: dict[int, _Version] = dataclasses.field(default_factory=dict)
    listing_error: str = ""

    def serves(self, number: int, folder: str) -> bool:
        version = self.versions.get(number)
        return version is not None and version.state == AVAILABLE and version.folder == folder

    def available(self) -> list[int]:
        return [number for number, version in self.versions.items() if version.state == AVAILABLE]


class Manager:
    """The models of a server, by name.

    Args:
        load: Loads and warms up a version, given model name, folder and number. If it raises, the version has failed.
        max_num_load_retries: How often to retry a failed version whose folder has not changed.
        load_retry_interval_seconds: Time between attempts.
        on_change: Called after models were configured or a version was loaded or unloaded.
        num_load_threads: Number of models loaded at a time; 0 or 1 loads one after the other.
    """

    def __init__(
        self,
        load: Load,
        max_num_load_retries: int = 5,
        load_retry_interval_seconds: float = 60.0,
        on_change: Callable[[], None] = lambda: None,
        num_load_threads: int = 0,
    ) -> None:
        self._load = load
        self._load_threads = num_load_threads
        self._retries = max_num_load_retries
        self._interval = load_retry_interval_seconds
        self._on_change = on_change
        self._models: dict[str, _Model] = {}
        self._lock = threading.Condition()
        # Held while versions are listed and loaded, so that a reload and a poll do not interfere.
        self._working = threading.Lock()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def configure(self, configs: Sequence[ServedModel], allow_unavailable_labels: bool = False) -> None:
        """Serve these models, and no others; if that is not possible, go on as before.

        Labels are checked before anything is loaded, as in TensorFlow Serving: a label can move to a version only after
        that version is available.

        Raises:
            ServingError: If no version of a model loads.
            StatusError: If a label names a version that is not available.
        """
        with self._working:
            before = {name: model.config for name, model in self._models.items()}
            for config in configs:
                self._check_labels(config, allow_unavailable_labels)
            with self._lock:
                for config in configs:
                    model = self._models.setdefault(config.name, _Model(dataclasses.replace(config, labels={})))
                    model.config = dataclasses.replace(config, labels=model.config.labels)
            failed = self._load_all([config.name for config in configs])
            if failed:
                self._restore(before)
                raise ServingError("; ".join(failed))
            with self._lock:
                for config in configs:
                    self._models[config.name].config = config
                kept = {config.name for config in configs}
                removed = [(name, self._models.pop(name)) for name in list(self._models) if name not in kept]
            for name, model in removed:
                self._unload(name, model, model.available())
            self._reconcile_all(kept)

    def _reconcile_all(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(ServingError):
                self._reconcile(name, self._models[name])
        self._on_change()

    def _load_all(self, names: Sequence[str]) -> list[str]:
        """Load what the configurations of models select; return why some have no version."""

        def load(name: str) -> str | None:
            model = self._models[name]
            try:
                if not model.available():
                    require_versions(model.config.base_path)
                self._reconcile(name, model, unload=False)
                return None if model.available() else self._why_not(name, model)
            except ServingError as error:
                return str(error)

        if self._load_threads > 1:
            with futures.ThreadPoolExecutor(self._load_threads) as pool:
                return list(filter(None, pool.map(load, names)))
        return list(filter(None, map(load, names)))

    def _restore(self, before: dict[str, ServedModel]) -> None:
        """Return to earlier configurations; what they served is still loaded."""
        with self._lock:
            added = [(name, self._models.pop(name)) for name in list(self._models) if name not in before]
            for name, config in before.items():
                self._models[name].config = config
        for name, model in added:
            self._unload(name, model, model.available())
        self._reconcile_all(before)

    def _check_labels(self, config: ServedModel, allow_unavailable: bool) -> None:
        model = self._models.get(config.name)
        available = model.available() if model else []
        before = model.config.labels if model else {}
        for label, version in config.labels.items():
            allowed = allow_unavailable and before.get(label, version) == version
            if version not in available and not allowed:
                raise StatusError(
                    grpc.StatusCode.FAILED_PRECONDITION,
                    f"Request to assign label to version {version} of model {config.name}, "
                    "which is not currently available for inference",
                )

    def _why_not(self, name: str, model: _Model) -> str:
        failed = {number: version.error for number, version in model.versions.items() if version.error}
        if failed:
            return failed[max(failed)]
        return f"expected a version of {name} that its policy selects. Received: none in {model.config.base_path}"

    def watch(self, poll_seconds: float) -> None:
        """Look for versions every `poll_seconds`, in a thread."""
        thread = threading.Thread(target=self._watch, args=(poll_seconds,), name="versions", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _watch(self, poll_seconds: float) -> None:
        while not self._stopping.wait(poll_seconds):
            self.poll()

    def poll(self) -> None:
        """Look for versions once."""
        with self._working:
            for name, model in list(self._models.items()):
                try:
                    self._reconcile(name, model)
                except Exception as error:
                    # If a folder cannot be listed, its models stay. The error is logged once, not at every poll.
                    if str(error) != model.listing_error:
                        log.warning("versions not listed", model=name, error=str(error))
                    model.listing_error = str(error)

    def _reconcile(self, name: str, model: _Model, unload: bool = True) -> None:
        folders = find_versions(model.config.base_path)
        model.listing_error = ""
        while not self._stopping.is_set():
            loadable = [number for number in folders if self._may_serve(model, number, folders[number])]
            wanted = model.config.policy.select(loadable)
            missing = [number for number in wanted if not model.serves(number, folders[number])]
            if not missing:
                break
            # The highest first, as most requests use it. After a failure the policy may select others.
            self._load_version(name, model, missing[-1], folders[missing[-1]])
        available = model.available()
        surplus = [number for number in available if number not in wanted]
        # Served versions stay until a selected one can take their place.
        if unload and surplus and (len(surplus) < len(available) or not folders):
            self._unload(name, model, surplus)
        self._forget(model, folders)

    def _may_serve(self, model: _Model, number: int, folder: str) -> bool:
        version = model.versions.get(number)
        return version is None or model.serves(number, folder) or version.may_load(folder, self._retries)

    def _load_version(self, name: str, model: _Model, number: int, folder: str) -> None:
        with self._lock:
            before = model.versions.get(number)
            # A version that still answers requests keeps its entry until the new one is loaded.
            version = _Version() if before is None or before.servable is not None else before
            if before is None or before.state != AVAILABLE:
                model.versions[number] = version
            tried = fingerprint(folder)
            if tried != version.tried:
                version.failures = 0
            version.folder, version.state, version.tried = folder, LOADING, tried
        started = time.monotonic()
        try:
            servable = self._load(name, folder, number)
        except Exception as error:
            text = str(error) if isinstance(error, ServingError) else f"{type(error).__name__}: {error}"
            with self._lock:
                version.state, version.error = END, text
                model.versions.setdefault(number, version)
                version.failures += 1
                version.next_try = time.monotonic() + self._interval
            log.error("version not loaded", model=name, version=number, path=folder, reason=text)
            return
        with self._lock:
            version.state, version.servable, version.error, version.failures = AVAILABLE, servable, "", 0
            model.versions[number] = version
            if before is not None and before is not version and before.state == AVAILABLE:
                self._start_drain(name, number, before)
        seconds = round(time.monotonic() - started, 3)
        log.info("version loaded", model=name, version=number, path=folder, seconds=seconds)
        self._on_change()

    def _unload(self, name: str, model: _Model, numbers: Sequence[int]) -> None:
        with self._lock:
            for number in numbers:
                self._start_drain(name, number, model.versions[number])
        self._on_change()

    def _start_drain(self, name: str, number: int, version: _Version) -> None:
        version.state = UNLOADING
        # In a thread, so that a long request on an old version does not delay the next one.
        thread = threading.Thread(target=self._drain, args=(name, number, version), daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    def _drain(self, name: str, number: int, version: _Version) -> None:
        with self._lock:
            self._lock.wait_for(lambda: version.leases == 0)
            servable, version.servable, version.state = version.servable, None, END
        if servable is not None:
            servable.close()
        log.info("version unloaded", model=name, version=number)

    def _forget(self, model: _Model, folders: dict[int, str]) -> None:
        with self._lock:
            gone = [n for n, version in model.versions.items() if version.state == END and n not in folders]
            for number in gone:
                # If the number comes back, it is a new version.
                model.versions[number].failures, model.versions[number].tried = 0, ()
            for number in sorted(gone)[: max(len(gone) - MAX_ENDED, 0)]:
                del model.versions[number]

    @contextlib.contextmanager
    def lease(self, spec: model_pb2.ModelSpec) -> Iterator[Servable]:
        """Yield the version that a request asks for; it stays loaded until the block ends."""
        with self._lock:
            version = self._find(spec)
            version.leases += 1
            servable = version.servable
        assert servable is not None
        try:
            yield servable
        finally:
            with self._lock:
                version.leases -= 1
                self._lock.notify_all()

    def _find(self, spec: model_pb2.ModelSpec) -> _Version:
        if not spec.name:
            raise invalid_argument("ModelSpec has no name specified.")
        model = self._models.get(spec.name)
        choice = spec.WhichOneof("version_choice")
        if choice == "version_label":
            labels = model.config.labels if model else {}
            if spec.version_label not in labels:
                raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
            number: int | None = labels[spec.version_label]
        elif choice == "version":
            number = spec.version.value
        else:
            number = highest(model.available()) if model else None
        version = model.versions.get(number) if model and number is not None else None
        if version is None or version.state != AVAILABLE:
            wanted = f"Latest({spec.name})" if choice is None else f"Specific({spec.name}, {number})"
            raise StatusError(grpc.StatusCode.NOT_FOUND, f"Servable not found for request: {wanted}")
        return version

    def knows(self, name: str) -> bool:
        """Return whether a model of that name is configured."""
        return name in self._models

    def logging_config(self, name: str) -> logging_config_pb2.LoggingConfig | None:
        """Return which requests of a model to log; None for none."""
        model = self._models.get(name)
        return model.config.logging if model is not None else None

    def latest(self, name: str) -> int | None:
        """Return the version that answers requests without one."""
        with self._lock:
            model = self._models.get(name)
            return highest(model.available()) if model else None

    def names(self) -> list[str]:
        """Return the names of the models."""
        return list(self._models)

    def ready(self) -> bool:
        """Return whether every model has an available version."""
        with self._lock:
            return bool(self._models) and all(model.available() for model in self._models.values())

    def status(self, spec: model_pb2.ModelSpec) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the states of one or all versions of a model, highest first."""
        response = get_model_status_pb2.GetModelStatusResponse()
        with self._lock:
            model = self._models.get(spec.name)
            versions = dict(model.versions) if model else {}
            wanted = sorted(versions, reverse=True)
            what = "any versions"
            if spec.WhichOneof("version_choice") == "version_label":
                labels = model.config.labels if model else {}
                if spec.version_label not in labels:
                    raise invalid_argument(f"Unrecognized servable version label: {spec.version_label}")
                wanted, what = [labels[spec.version_label]], f"version {labels[spec.version_label]}"
            elif spec.HasField("version"):
                wanted, what = [spec.version.value], f"version {spec.version.value}"
            if not wanted or any(number not in versions for number in wanted):
                raise StatusError(grpc.StatusCode.NOT_FOUND, f"Could not find {what} of model {spec.name}")
            for number in wanted:
                added = response.model_version_status.add(version=number, state=versions[number].state)
                added.status.SetInParent()
                if versions[number].error:
                    added.status.error_code = grpc.StatusCode.UNKNOWN.value[0]
                    added.status.error_message = truncate(versions[number].error)
        return response

    def close(self, seconds: float = CLOSE_SECONDS) -> bool:
        """Stop polling and unload all versions; return whether their last requests have ended in time."""
        self._stopping.set()
        with self._working, self._lock:
            models = dict(self._models)
            self._models.clear()
        for name, model in models.items():
            self._unload(name, model, model.available())
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(end - time.monotonic(), 0.0))
        return not any(thread.is_alive() for thread in self._threads)
