"""Built-in recipes of training, as YAML."""
