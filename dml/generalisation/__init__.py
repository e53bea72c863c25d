"""The two gaps of generalisation in federated learning, and evaluated bounds on them, from losses alone."""
