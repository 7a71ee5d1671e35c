"""What every step shares: tasks, species, sites, geometry, the source protocol, and types of corrections and cuts."""
