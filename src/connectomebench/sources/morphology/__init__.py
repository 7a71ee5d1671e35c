"""Proofread neurons as meshes or skeletons, with simulated errors."""
