"""Discovery: how a node shows itself, and how others find it, choose it and ask how it is.

A node: `registering`, `registration`, `services_api`, `checking`, `health`, `report`. Who looks for it: `directing`,
with `cache`, `strategies`, `filters`, `versions` and `marks`; `asking`, `ready`, `listing`.
"""
