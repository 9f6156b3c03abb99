"""What runs found: the record, its file, the verdict, comparisons, and what is noise."""
