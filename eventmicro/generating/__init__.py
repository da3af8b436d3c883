"""Generating: code from what is known of a service: contracts in Python, `.proto` files, and back."""
