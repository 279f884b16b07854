"""The data path: samples of stores, in an order that can be named, into batches of tensors."""
