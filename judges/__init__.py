"""Shapes whose inside is known exactly, and ways to spoil their meshes: what geometry is judged by."""
