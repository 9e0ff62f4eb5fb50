"""Where values of secrets still lie about, in files and in git's history. None is ever printed, nor given to git."""
