"""The database: its tables, how it is opened, how it grows from one version to the next."""
