"""From figures to words, tables, pictures and pages."""
