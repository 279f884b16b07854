"""How runs are judged: one file a protocol."""
