"""A sales representative's portal that keeps selling with no network: the reference application of offlinekit."""
