"""What a document must pass: languages, licences, filters, secrets, duplicates, benchmarks."""
