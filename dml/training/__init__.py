"""How one client trains: the plain loop, the stack for a GPU, measures of its predictions, the machine it runs on."""
