"""The tables and views of a database: made, compared, moved aside."""
