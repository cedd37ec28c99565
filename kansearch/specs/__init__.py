"""What a user declares and what a trial answers: frozen, validated values."""
