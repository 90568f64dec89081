"""The messenger beside a site's own backend: the users and rooms of the backend in the directory, without a login."""
