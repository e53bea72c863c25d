"""Models other than VisionNet, by name in `catalogue.py`. The core runs without them."""
