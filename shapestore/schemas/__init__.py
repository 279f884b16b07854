"""What a store may hold: array specs, families and their rules, records, recipes (no zarr, no torch)."""
