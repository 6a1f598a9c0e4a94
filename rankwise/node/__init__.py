"""What a rank has of its node: cores, memory, GPUs, caches, code; whether that makes sense."""
