"""Networks, and their settings and presets."""
