"""Geometry operations, one file each: pure functions over arrays, numpy in and out."""
