"""What a quantisation or an engine is worth: accuracy and latency with their conditions."""
