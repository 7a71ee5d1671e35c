"""Source of label volumes: an automatic and a proofread segmentation."""
