"""Human evaluation: people answer the rows models answer, and rate model analyses."""
