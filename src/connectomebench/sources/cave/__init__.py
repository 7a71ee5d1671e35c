"""Corrections from the edit history of a CAVE server; labels, meshes and images through cloud-volume."""
