"""What models write: cues, length and form of replies."""
