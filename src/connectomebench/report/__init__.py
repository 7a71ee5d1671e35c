"""Reports for people, made from dataset folders, result records and manifests."""
