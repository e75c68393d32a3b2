"""Pictures and pages: clip previews, TensorBoard summaries, explanations as files, the results page."""
