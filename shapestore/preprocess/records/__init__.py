"""From raw items to records: one file per kind of raw item."""
