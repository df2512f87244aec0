"""The science: from a float lane detector and unlabelled frames to a ScaleTable (torch)."""
