"""The format: shard writer, commit, reader, xarray and torch views."""
