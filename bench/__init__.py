"""Speed comparisons with what a user already has; ``python -m bench`` runs them all."""
