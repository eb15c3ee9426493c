"""What the commands do with bundles, without PyTorch unless models of a run are asked for."""
