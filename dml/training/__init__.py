"""How one client trains: the plain loop, measures of its predictions, the machine it runs on."""
