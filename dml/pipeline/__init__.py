"""A run from end to end: jobs, notebooks, web pages, figures and texts, and the manifest that comes last."""
