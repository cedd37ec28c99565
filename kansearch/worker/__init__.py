"""The process that trains: claims trials of a study one after the other until its budget is spent."""
