"""Label volumes of an automatic and a proofread segmentation."""
