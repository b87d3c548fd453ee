"""`serve-app up`: one service on this machine, from nothing to ready to gone."""
