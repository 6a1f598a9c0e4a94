"""From runs to figures: statistics, laws, points, fits. Numbers, no words."""
