"""What trained networks have learned."""
