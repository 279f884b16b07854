"""From raw files to records: sources, file formats, geometry, the Dask job."""
