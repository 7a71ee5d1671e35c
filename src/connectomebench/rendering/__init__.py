"""Render sites and their meshes: orthographic views and slices of image data."""
