"""What clients tell each other: messages, their bytes, the ledger that counts them, who sends to whom (notebook 04)."""
