"""From a typed Q/DQ ONNX to an engine, and the proof of what runs in INT8."""
