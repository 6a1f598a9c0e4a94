"""What every job needs from its ranks. No numerics here."""
