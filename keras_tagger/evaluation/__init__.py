"""Evaluation of a tagger: scores, bootstrap intervals, reports, comparisons, thresholds."""
