"""Options in, one call, text out; everything heavy is imported inside the commands."""
