"""The formats of other programs, written from plain values: names, numbers and times.

`Tags`, `Heatmap` and `Attention` have a method for each format; docs/interchange.md describes them.

    labels.py             stretches of time with a name; Audacity label tracks and WebVTT chapters
    jams.py               JSON Annotated Music Specification
    sonic_visualiser.py   layers of Sonic Visualiser
"""
