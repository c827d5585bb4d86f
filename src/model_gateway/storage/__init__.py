"""The database: its tables, how it is opened, how it goes from one version to the next and back."""
