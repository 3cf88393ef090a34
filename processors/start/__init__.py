"""What a worker must know before it reads on."""
