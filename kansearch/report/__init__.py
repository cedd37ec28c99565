"""What the trials taught: records in, numbers first (`Summary`), then the report that people read."""
