"""Raw files as documents: found, partitioned among workers, and read in bounded memory."""
