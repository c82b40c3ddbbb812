"""Parts of the preparation of the domain adaptation job."""
