"""The process that trains: fills a pack with trials of a study until its budget is spent."""
