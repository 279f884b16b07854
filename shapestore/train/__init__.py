"""Learning on stores: data path, models, objectives and the loop."""
