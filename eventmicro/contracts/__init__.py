"""Contracts: the endpoints of a service as a class of typed methods, which both sides share."""
