"""From a site and its meshes to pictures: orthographic views and slices of image data."""
