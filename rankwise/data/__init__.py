"""Arrays that know how they travel; sums and exchanges between ranks."""
