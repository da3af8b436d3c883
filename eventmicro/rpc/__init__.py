"""Calls: how they are made, and how an endpoint answers them."""
