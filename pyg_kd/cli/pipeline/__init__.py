"""What the commands do that need PyTorch."""
