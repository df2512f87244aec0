"""What executes an engine: ONNX Runtime on the CPU, TensorRT on the GPU."""
