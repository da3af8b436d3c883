"""Large bodies of calls: a request or reply over the broker's limit, in pieces over the frames of streams."""
