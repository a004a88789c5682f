"""What the decoders of text share: scanning lines, names and fields in compiled code."""
