"""Everything on one machine: the parts as child processes of one supervisor."""
