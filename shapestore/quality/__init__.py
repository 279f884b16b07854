"""Quality: whether a store is whole and keeps its rules."""
