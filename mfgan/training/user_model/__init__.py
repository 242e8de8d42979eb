"""Training of the GAN user model."""
