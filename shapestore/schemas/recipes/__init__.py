"""Built-in recipes, as YAML."""
