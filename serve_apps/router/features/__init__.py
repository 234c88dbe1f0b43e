"""What a prompt is made of, as numbers: one extractor per file."""
