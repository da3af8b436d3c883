"""Streams of messages beside a call a message, and beside grpc.aio."""
