"""Where segments, corrections, meshes, skeletons and image data come from: one module a source, one protocol."""
