"""The stored row, the manifest, the card and the loading of datasets."""
