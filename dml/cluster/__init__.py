"""An annex: the same jobs on many machines, through Dask (README.md beside this). Needs the extra `cluster`."""
