"""Fitting and evaluating: `fit`, `evaluate`, and what they are made of."""
