"""What is minimised: terms by name, and their settings and presets."""
