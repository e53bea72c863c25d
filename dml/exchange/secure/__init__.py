"""An annex: a sum of tables of which the server sees no single one. Needs the optional extra `flower`."""
