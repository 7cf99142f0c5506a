"""PyTorch's files: zip, legacy, TorchScript and plain pickles, read as data; zip written."""
