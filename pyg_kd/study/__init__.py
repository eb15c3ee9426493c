"""Evidence: studies that rerun, ablations, refresh policies and simulated experiments."""
