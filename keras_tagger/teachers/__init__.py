"""Teachers: models whose scores are labels for `keras_tagger.distill`.

`teacher` has the interface, `opening` finds a teacher by its name or path, `musicnn` is musicnn with its published
weights, and `models` turns any `Tagger` and any exported SavedModel into a teacher. `matching` says which tag of the
teacher is which tag of the student, and `labelling` labels many clips.
"""
