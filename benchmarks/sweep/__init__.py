"""Many engines on one data set, in shards, on this machine or a Ray cluster; goes on where it was.

Work is cut into tasks whose results are plain values: make an engine, score a shard of frames. The
driver alone writes files, so workers may die, and be on machines that share nothing but the data.
"""
