"""The same experiment as a deployment on Flower: real processes, TLS, authenticated nodes (README.md beside this)."""
