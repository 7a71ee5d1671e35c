"""Sources of segments, corrections, meshes, skeletons and image data: one module per source, one protocol."""
