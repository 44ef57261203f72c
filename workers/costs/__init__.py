"""What a model costs on a board, from first principles: FLOPs, bytes, seconds, joules."""
