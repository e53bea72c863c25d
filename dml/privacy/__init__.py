"""What an honest-but-curious server or peer learns from the messages of each method: the probes of notebook 03."""
