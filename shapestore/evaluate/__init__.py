"""Evaluation: how good a model's shapes are, by metrics that say whose definition they follow."""
