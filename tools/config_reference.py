"""Write docs/reference/configuration.md, the reference of every configuration key, from the dataclasses.

    python tools/config_reference.py            write the page
    python tools/config_reference.py --check    exit with 1 if the page is out of date

Keys, types and defaults are those of the dataclasses in `keras_tagger.config`; descriptions come from the `Attributes:`
section of their docstrings. Not part of the package.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from keras_tagger.config import ExperimentConfig, PhaseConfig, flat, presets

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "configuration.md"

INTRODUCTION = """\
# Configuration

<!-- Written by tools/config_reference.py. Edit the docstrings in keras_tagger/config and run it again. -->

An experiment is a YAML file with the sections below. Every key is optional. If the file names a `preset`, the values
that it does not set come from the preset, otherwise from the defaults in these tables. The configurations that come
with the package, in `keras_tagger/config/experiments/`, are examples.

```yaml
name: mine
preset: compact
data: {path: my_music/}
training:
  epochs: 2
  augment: {gain_db: 3.0}
```

The command line and Python take the same keys, written with dots:

```bash
keras-tagger fit demo \\
    --set training.epochs=2 --set training.augment.gain_db=3
```

```python
kt.fit("demo", **{"training.epochs": 2})
```

An unknown key or a value that is not allowed raises a `ConfigError`, which names the key and what is allowed. Run
directories, exports and TensorBoard keep the resolved configuration, with every key written out.
"""

PRESETS = """\
`keras_tagger.presets()` returns them by name. An empty cell stands for the default.

{values}

Three presets train in phases (`training.phases`), as their authors did:

{phases}
"""


def page() -> str:
    """Return the text of the whole page."""
    parts = [INTRODUCTION]
    for key, section in sections(ExperimentConfig):
        title = f"`{key}`" if key else "Top level"
        parts.append(f"## {title}\n\n{_markdown(summary(section))}\n\n{table(key, section)}")
    parts.append(f"## Presets\n\n{preset_table()}")
    return "\n".join(parts)


def sections(section: type, key: str = "") -> Iterator[tuple[str, type]]:
    """Yield a section and the sections within it, each with its dotted key."""
    yield key, section
    for name, annotation in _types(section).items():
        inner = _inner_section(annotation)
        if inner is not None:
            yield from sections(inner, f"{key}.{name}".lstrip("."))


def table(key: str, section: type) -> str:
    """Return the section's keys as a Markdown table."""
    described = descriptions(section)
    annotations = _types(section)
    rows = ["| key | values | default | description |", "|---|---|---|---|"]
    for field in dataclasses.fields(section):
        dotted = f"{key}.{field.name}".lstrip(".")
        inner = _inner_section(annotations[field.name])
        if inner is None:
            values, default = allowed(annotations[field.name]), _default(field)
        else:
            values, default = f"[section](#{_anchor(dotted)})", ""
        described_as = _markdown(_sentence(described.get(field.name, summary(inner) if inner else "")))
        rows.append(f"| `{field.name}` | {values} | {default} | {described_as} |")
    return "\n".join(rows) + "\n"


def preset_table() -> str:
    """Return the values in which the presets differ from the defaults, a column per preset."""
    found = presets()
    values = {name: flat(config.to_dict()) for name, config in found.items()}
    defaults = flat(ExperimentConfig().to_dict())
    phases = {name: config.training.phases for name, config in found.items() if config.training.phases}
    keys = [key for key in defaults if key not in ("name", "preset", "training.phases")]
    differing = [key for key in keys if any(values[name][key] != defaults[key] for name in found)]
    rows = [f"| key | default | {' | '.join(f'`{name}`' for name in found)} |", "|---" * (len(found) + 2) + "|"]
    for key in differing:
        cells = [_value(values[name][key]) if values[name][key] != defaults[key] else "" for name in found]
        rows.append(f"| `{key}` | {_value(defaults[key])} | {' | '.join(cells)} |")
    names = [field.name for field in dataclasses.fields(PhaseConfig)]
    steps = [f"| preset | {' | '.join(f'`{name}`' for name in names)} |", "|---" * (len(names) + 1) + "|"]
    for preset, of in phases.items():
        steps += [f"| `{preset}` | {' | '.join(_value(getattr(phase, name)) for name in names)} |" for phase in of]
    return PRESETS.format(values="\n".join(rows), phases="\n".join(steps))


def descriptions(section: type) -> dict[str, str]:
    """Return the description of each attribute, from the docstring's `Attributes:` section."""
    lines = inspect.getdoc(section).splitlines() if section.__doc__ else []
    found: dict[str, str] = {}
    names: list[str] = []
    inside = False
    for line in lines:
        if re.match(r"\w[\w ]*:$", line):
            inside = line == "Attributes:"
        elif inside and (entry := re.match(r"    (\w+(?:, \w+)*)(?: \([^)]*\))?: (.*)", line)):
            names = entry[1].split(", ")
            found.update(dict.fromkeys(names, entry[2].strip()))
        elif inside and names and line.strip():
            found.update({name: f"{found[name]} {line.strip()}" for name in names})
    return found


def summary(section: type) -> str:
    """Return the first paragraph of the docstring."""
    return " ".join((inspect.getdoc(section) or "").split("\n\n")[0].split())


def allowed(annotation: Any) -> str:
    """Return the values that a type allows, in words."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return ", ".join(_value(value) for value in arguments)
    if origin is tuple:
        return f"list of {allowed(arguments[0])}s" if arguments[0] is not str else "list of texts"
    if origin in (typing.Union, types.UnionType):
        return " or ".join(allowed(one) for one in arguments if one is not type(None))
    if dataclasses.is_dataclass(annotation):
        return "section"
    return {int: "integer", float: "number", str: "text", bool: "`true`, `false`"}.get(annotation, str(annotation))


def _types(section: type) -> Mapping[str, Any]:
    return typing.get_type_hints(section)


def _inner_section(annotation: Any) -> type | None:
    """Return the dataclass of a section, or of the entries of a list of sections."""
    arguments = typing.get_args(annotation)
    inner = arguments[0] if typing.get_origin(annotation) is tuple and arguments else annotation
    return inner if isinstance(inner, type) and dataclasses.is_dataclass(inner) else None


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return _value(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return _value(field.default_factory())
    return "required"


def _value(value: Any) -> str:
    """Return a value as YAML writes it."""
    if value == "":
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(str(entry) for entry in value)}]`"
    return f"`{value}`"


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


def _anchor(key: str) -> str:
    # As Python-Markdown's toc makes it of a heading.
    return re.sub(r"[^\w\s-]", "", key).strip().lower()


def _markdown(text: str) -> str:
    """Return a docstring's text for a table: names of sections' classes become links, and `|` is escaped."""
    for name, key in _section_keys().items():
        text = text.replace(f"`{name}`", f"[`{key}`](#{_anchor(key)})" if key else "the top level")
    return re.sub(r"\|", r"\\|", text)


def _section_keys() -> dict[str, str]:
    """Return the dotted key of each section's class."""
    return {section.__name__: key for key, section in sections(ExperimentConfig)}


def main() -> int:
    """Write or check the page; the exit status is 1 if a checked page is out of date."""
    parser = argparse.ArgumentParser(description="Write the configuration reference.")
    parser.add_argument("--check", action="store_true", help="do not write; exit with 1 if the page is out of date")
    arguments = parser.parse_args()
    text = page()
    if arguments.check:
        if PAGE.read_text(encoding="utf-8") != text:
            print(f"{PAGE} is out of date: run python tools/config_reference.py", file=sys.stderr)
            return 1
        return 0
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
