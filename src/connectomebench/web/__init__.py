"""What all pages of this package share: who may open them, how they are served, where uploads lie."""
