"""DML's relatives: methods it competes with, by name in `catalogue.py`. The core runs without them."""
