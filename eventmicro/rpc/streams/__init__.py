"""Streams: calls of many messages, one way or both ways, in numbered frames with credit between two sides."""
