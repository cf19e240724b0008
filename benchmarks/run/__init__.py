"""From a comparison to records: the parent, its workers, the journal."""
