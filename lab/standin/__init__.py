"""Programs of the lab that stand in for what is in no Debian package. They say so wherever they show."""
