"""Steps from one layout to the next, run by Alembic."""
