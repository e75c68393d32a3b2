"""Measuring a tagger: scores, intervals, reports, comparisons, thresholds."""
