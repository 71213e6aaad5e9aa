"""A trained model as a bundle that the service loads."""
