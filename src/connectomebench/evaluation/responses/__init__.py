"""Analyse replies of models: cues, length and form."""
