"""Readers of raw files: bytes on disk to plain arrays, or `InputRefused` with a reason."""
